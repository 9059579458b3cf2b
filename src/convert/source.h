/* convert/source: any model file as {config, tokenizer, rows}.
 *
 * One reader per ecosystem implements this; everything above (training from a model, generating, evaluating,
 * info, writing another format) is written against it. Rows are in our names (Hugging Face names) and layout
 * (row-major [out,in], rope in split-half order), whatever the file's own order is.
 */
#ifndef AA_CONVERT_SOURCE_H
#define AA_CONVERT_SOURCE_H

#include "data/tokenizer.h"
#include "model/model.h"

typedef struct aa_source aa_source;
struct aa_source {
    const char *format;                        /* "huggingface", ... */
    aa_config config;                          /* resolved */
    char *tokenizer_path;                      /* tokenizer.json, or NULL if the model has none            */
    int32_t *active_ids; size_t n_active;      /* compact vocabulary recorded by us, or NULL                */
    /* Fills dst (f32, row's rows*cols) with the row named so; AA_ENOTFOUND if the file lacks it.            */
    aa_status (*read)(aa_source *s, const aa_tensor *row, float *dst, aa_err *err);
    void (*close)(aa_source *s);
    void *self;
};

/* path: a run directory (its `best`, else `last`), a checkpoint / Hugging Face directory, or a model file.   */
aa_status aa_source_open(aa_source **out, const char *path, aa_err *err) AA_MUST_USE;
void aa_source_close(aa_source *s);
/* Reads every row of a laid-out model; refuses rows that are missing or left over, naming them.              */
aa_status aa_source_load(aa_source *s, aa_model *m, aa_err *err) AA_MUST_USE;
aa_status aa_source_tokenizer(aa_source *s, aa_tokenizer **out, aa_err *err) AA_MUST_USE;   /* bytes if none   */

/* ---- Hugging Face directories ------------------------------------------------------------------------------ */

typedef struct aa_hf_options {
    const aa_tokenizer *tokenizer;             /* NULL: none is written                                          */
    const int32_t *active_ids; size_t n_active; size_t full_vocab;   /* compact vocabulary: expand on writing   */
    const float *mean_logit;                   /* [V] of the compact model, needed when expanding               */
} aa_hf_options;

/* Writes config.json, generation_config.json, model.safetensors, tokenizer.json, tokenizer_config.json into an
 * existing directory. Residual scale is folded into the output projections. *out_exact tells whether
 * model.safetensors holds the very weights (no folding, no expansion).                                          */
aa_status aa_hf_write(const char *dir, const aa_model *m, const aa_hf_options *o, bool *out_exact, aa_err *err) AA_MUST_USE;
aa_status aa_hf_config_json(const aa_config *c, const aa_tokenizer *t, aa_text *out, aa_err *err) AA_MUST_USE;
aa_status aa_hf_config_parse(aa_config *out, const char *path, aa_err *err) AA_MUST_USE;

#endif
