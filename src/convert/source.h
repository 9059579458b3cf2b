/* convert/source: any model file as {config, tokenizer, rows}.
 *
 * One reader per ecosystem implements this; everything above (training from a model, generating,
 * evaluating, info, writing another format) is written against it. Rows go by our names (Hugging
 * Face names) and stay where they are, mapped, in the type and order of the file (num/stored.h).
 */
#ifndef AA_CONVERT_SOURCE_H
#define AA_CONVERT_SOURCE_H

#include "base/digest.h"
#include "data/tokenizer.h"
#include "model/model.h"
#include "num/stored.h"

/* A member of what a file says of itself; json: its value. */
typedef void aa_source_key(void *ctx, const char *key, const char *json);

typedef struct aa_source aa_source;
struct aa_source {
    const char *format;                  /* "huggingface", ... */
    char *path;                          /* the directory or file really read (links resolved) */
    aa_config config;                    /* resolved; of a compact model, vocab is n_active */
    char *tokenizer_path;                /* the file with its tokenizer; NULL: it has none */
    char *chat_template;                 /* Jinja source of its chat format, or NULL */
    size_t full_vocab;                   /* ids that the files hold rows for */
    /* Compact vocabulary it was trained with, as recorded by us, or NULL: ascending ids. The file's
     * rows of other ids are stand-ins for other programs. The source is the model as trained: row i
     * of the embedding and the head is that of active_ids[i]. After loading the list may be
     * taken: it is then the taker's, and NULL here. */
    int32_t *active_ids; size_t n_active;
    /* The matrix named as the row is, its shape compared with the row's (token tables have
     * full_vocab rows); valid until close. AA_ENOTFOUND if the file lacks it. */
    aa_status (*find)(aa_source *s, const aa_tensor *row, aa_stored *out, aa_err *err);
    bool mapped;                         /* ... and in mapped files: aa_sys_map_drop is harmless */
    /* NULL unless there is a tokenizer_path. */
    aa_status (*tokenizer)(aa_source *s, aa_tokenizer **out, aa_err *err);
    /* After every row was found: fails if the file holds weights nobody asked for (may be NULL). */
    aa_status (*check_all_read)(aa_source *s, aa_err *err);
    /* What the files say beside weights, in their order: config.json, GGUF's keys, of which long
     * arrays are given as {"array":kind,"n":count} (NULL: nothing that is not in config). */
    aa_status (*metadata)(aa_source *s, aa_source_key *each, void *ctx, aa_err *err);
    void (*close)(aa_source *s);         /* frees self */
    void *self;
    struct aa__merge *merge;             /* adapters merged into it (adapter.h), or NULL */
};

/* path: a run directory (its `best`, else `last`), a checkpoint / Hugging Face directory, or a
 * model file. */
aa_status aa_source_open(aa_source **out, const char *path, aa_err *err) AA_MUST_USE;
/* Whether the file begins as a model. */
bool aa_source_is_file(const char *path);
void aa_source_close(aa_source *s);      /* NULL is fine */
/* Reads every row of a laid-out model; refuses rows that are missing, left over or not finite,
 * naming them. Rows of a stored model are found, not read: it needs the source open, its whole
 * vocabulary, and shows by its results whether they are finite. The model's shapes must be those of
 * s->config (seq and residual_scale are not compared). */
aa_status aa_source_load(aa_source *s, aa_model *m, aa_err *err) AA_MUST_USE;
/* The row's matrix, as in find, of the model as trained: of a compact vocabulary only active rows.
 * dst: rows*cols floats. */
aa_status aa_source_read(aa_source *s, const aa_tensor *row, float *dst, aa_err *err) AA_MUST_USE;
/* Every row of the files, in the order of the model's rows. */
typedef aa_status aa_source_row(void *ctx, const aa_tensor *row, const aa_stored *m, aa_err *err);
aa_status aa_source_each(aa_source *s, aa_source_row *each, void *ctx, aa_err *err) AA_MUST_USE;
/* What the weights take in the files. */
typedef struct aa_source_weights {
    uint64_t n_tensors[AA_TYPE_COUNT], size_bytes, n_values;
    bool quantised;                      /* some are of a type that no float is */
} aa_source_weights;
aa_status aa_source_measure(aa_source *s, aa_source_weights *out, aa_err *err) AA_MUST_USE;
/* Of names, types, shapes and bytes of all weights, whatever else the files say. */
aa_status aa_source_weights_digest(aa_source *s, aa_digest *out, aa_err *err) AA_MUST_USE;
/* "211 Q4_1, 61 F32" */
void aa_source_types(const aa_source_weights *w, aa_text *out);
/* From now on the source is the model of these ids (ascending, copied). Refuses one that is compact
 * already, and ids it has no rows for. */
aa_status aa_source_restrict(aa_source *s, const int32_t *ids, size_t n, aa_err *err) AA_MUST_USE;
/* Bytes if the model brings none. Refuses a tokenizer with more ids than the model. */
aa_status aa_source_tokenizer(aa_source *s, aa_tokenizer **out, aa_err *err) AA_MUST_USE;

/* ---- Hugging Face directories ---------------------------------------------------------------- */

enum { AA_HF_MAX_FILES = 8 };             /* of ours, and room for what a checkpoint adds */
typedef struct aa_hf_file { const char *name; uint64_t size_bytes; aa_digest digest; } aa_hf_file;
typedef struct aa_hf_files { aa_hf_file file[AA_HF_MAX_FILES]; size_t n; } aa_hf_files;
void aa_hf_note(aa_hf_files *files, const char *name, uint64_t size_bytes, aa_digest digest);

typedef struct aa_hf_options {
    const aa_tokenizer *tokenizer;       /* NULL: none is written */
    const char *chat_template;           /* Jinja, goes with the tokenizer; NULL: none */
    /* Row i of the model is id active_ids[i] of full_vocab ids, in any order; NULL: the rows are
     * the ids. A compact vocabulary (n_active < full_vocab) is expanded, and its ids are recorded
     * in active_vocabulary.json. */
    const int32_t *active_ids; size_t n_active; size_t full_vocab;
    const float *mean_logit;             /* [V] of the model, needed if n_active < full_vocab */
    aa_cpu *cpu;                         /* multiplies out a low-rank head, which needs it */
    aa_hf_files *files;                  /* added to: what was written; NULL: not wanted */
} aa_hf_options;

/* Writes config.json, generation_config.json, model.safetensors, tokenizer.json,
 * tokenizer_config.json into an existing directory. Residual scale is folded into the output
 * projections, a low-rank head multiplied out, an adapter without magnitudes added to its
 * matrices. *out_exact tells whether model.safetensors holds the
 * very weights (none of that, and rows in the order of ids). */
aa_status aa_hf_write(const char *dir, const aa_model *m, const aa_hf_options *o, bool *out_exact,
                      aa_err *err) AA_MUST_USE;
/* Fails (AA_EUNSUPPORTED) for a model that the architecture's own configuration cannot express: ask
 * before training. t may be NULL; weights is the type that most of them have. */
aa_status aa_hf_config_json(const aa_config *c, const aa_tokenizer *t, aa_type weights,
                            aa_text *out, aa_err *err) AA_MUST_USE;
/* path is that of config.json. What it asks for and we cannot compute is refused by key. */
aa_status aa_hf_config_parse(aa_config *out, const char *path, aa_err *err) AA_MUST_USE;

#endif
