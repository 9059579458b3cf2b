/* convert/adapter: what fine-tuning added to a model, from any format, as rows of that model.
 *
 * A row of the base model may be taken over whole, and a matrix may get a low-rank term on top
 * (num/stored.h): W + scale B A, and with magnitudes each row at that length (DoRA). Values stay
 * where they are, mapped, in the type and order of their file, as those of a source do.
 *
 * An adapter is a claim about another file. What can be said without that file is checked when it
 * is opened; the rest (shapes, the order of rows, whether anything is missing) when it is bound to
 * the configuration of its base, which merging and writing ask for.
 */
#ifndef AA_CONVERT_ADAPTER_H
#define AA_CONVERT_ADAPTER_H

#include "convert/convert.h"
#include "model/lora.h"

typedef struct aa_adapter_row {
    char name[72];                       /* the base's row: "model.layers.0.mlp.up_proj.weight" */
    aa_stored whole;                     /* in place of the base's values; data NULL: those stay */
    aa_stored A, B;                      /* [r,in], [out,r]; data NULL: no low-rank term */
    aa_stored magnitude;                 /* [1,out]; data NULL: none */
    double alpha;                        /* what scale is made from: aa_adapter_scale */
} aa_adapter_row;

typedef struct aa_adapter aa_adapter;
struct aa_adapter {
    const char *format;                  /* "peft", "gguf", "lora sidecar" */
    char *path;
    char *base_name;                     /* the base, as the adapter calls it, or NULL */
    aa_digest base_digest;               /* aa_source_weights_digest of it; 0: not known */
    size_t rank;                         /* of all terms, where there are no rows yet; else 0 */
    bool rslora;                         /* scale is alpha/sqrt(r) instead of alpha/r */
    double dropout;                      /* that it was trained with */
    bool splits_table;                   /* a new embedding leaves a tied head as it was */
    aa_adapter_row *rows; size_t n_rows;
    /* The format's part of aa_adapter_bind (NULL: none), and what it has open. */
    aa_status (*bind)(aa_adapter *a, const aa_config *base, aa_err *err);
    void (*close)(aa_adapter *a);
    void *self;
};

/* Whether path is one, by its contents. */
bool aa_adapter_is(const char *path);
/* path: a PEFT directory, a run of one (its `best`, else `last`), a GGUF adapter, or a LoRA sidecar
 * of the original, which has rows only when it is bound. */
aa_status aa_adapter_open(aa_adapter **out, const char *path, aa_err *err) AA_MUST_USE;
/* The base it names, refused if its weights are not those that are known of it. */
aa_status aa_adapter_open_base(const aa_adapter *a, aa_source **out, aa_err *err) AA_MUST_USE;
void aa_adapter_close(aa_adapter *a);    /* NULL is fine */
/* Compares every row with the base's, by name and shape. base->vocab: as many ids as its files have
 * rows for. */
aa_status aa_adapter_bind(aa_adapter *a, const aa_config *base, aa_err *err) AA_MUST_USE;
double aa_adapter_scale(const aa_adapter *a, const aa_adapter_row *row);
/* The row of that name, or NULL. */
const aa_adapter_row *aa_adapter_find(const aa_adapter *a, const char *name);

/* From now on s is the merged model: a is bound to it, find gives merged rows, and on success a is
 * closed with s. Several may be merged, one on the other. A tied model whose head and embedding
 * part becomes untied. Of a GGUF file and of a directory all else stays. */
aa_status aa_source_merge(aa_source *s, aa_adapter *a, aa_err *err) AA_MUST_USE;

/* What trains in a model with an adapter (m->lora), as rows that point into its memory. base_name
 * may be NULL. */
aa_status aa_adapter_of_model(aa_adapter **out, const aa_model *m, const char *base_name,
                              aa_err *err) AA_MUST_USE;
/* The way back, of an adapter bound to c: what aa_model_init_lora needs (its sites are the
 * caller's, on the heap), and then its values. What can only be merged is refused. */
aa_status aa_adapter_lora(const aa_adapter *a, const aa_config *c, aa_lora *out,
                          aa_lora_site **out_sites, aa_err *err) AA_MUST_USE;
aa_status aa_adapter_load(const aa_adapter *a, aa_model *m, aa_err *err) AA_MUST_USE;

/* Writers, of an adapter bound to base. Types are F32, F16 and BF16; AA_TYPE_COUNT: as it is, and
 * F32 for what is quantised. path of PEFT is a directory, which must be empty or not be there. GGUF
 * has low-rank terms alone, and one alpha for all: where scales differ, B takes up the rest. */
typedef aa_status aa_adapter_writer(const char *path, const aa_adapter *a, const aa_config *base,
                                    const aa_convert_options *o, aa_err *err);
aa_adapter_writer aa_peft_write, aa_adapter_gguf_write;

#endif
