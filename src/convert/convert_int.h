/* convert, private: what the files of the room share. */
#ifndef AA_CONVERT_INT_H
#define AA_CONVERT_INT_H

#include "convert/source.h"
#include "sys/sys.h"

#define AA__HF_CONFIG "config.json"
#define AA__HF_WEIGHTS "model.safetensors"
#define AA__HF_INDEX "model.safetensors.index.json"
#define AA__HF_GENERATION "generation_config.json"
#define AA__HF_TOKENIZER "tokenizer.json"
#define AA__HF_TOKENIZER_CONFIG "tokenizer_config.json"
#define AA__HF_TEMPLATE "chat_template.jinja"
#define AA__HF_ACTIVE "active_vocabulary.json"

/* Opens dir (which holds a config.json) as a source; s is zeroed and has its path. */
aa_status aa__hf_open(aa_source *s, const char *dir, aa_err *err) AA_MUST_USE;
/* Opens a file of that format. */
aa_status aa__gguf_open(aa_source *s, const char *path, aa_err *err) AA_MUST_USE;
aa_status aa__flat_open(aa_source *s, const char *path, aa_err *err) AA_MUST_USE;

/* The chat template that the files of a Hugging Face tokenizer in dir have, if any. */
aa_status aa__hf_read_template(aa_source *s, const char *dir, aa_err *err) AA_MUST_USE;

/* Of a Hugging Face directory: config.json and generation_config.json; the two of a tokenizer. */
aa_status aa__hf_write_config(const char *dir, const aa_config *c, const aa_tokenizer *k,
                              aa_type type, aa_err *err) AA_MUST_USE;
aa_status aa__hf_write_tokenizer(const char *dir, const aa_config *c, const aa_tokenizer *k,
                                 const char *chat_template, aa_err *err) AA_MUST_USE;
/* What to multiply the row with, so that its model needs no residual scale. */
double aa__residual_scale_of(const aa_config *c, const aa_tensor *row);

/* Whether the tensor has a row for each id. */
static inline bool aa__is_by_id(const aa_tensor *t) {
    return t->kind == AA_KIND_EMBEDDING || t->kind == AA_KIND_HEAD;
}

/* Has write fill a directory beside path, which becomes path when it is whole. What is at path must
 * be nothing, or an empty directory. */
typedef aa_status aa__directory_fn(void *ctx, const char *dir, aa_err *err);
aa_status aa__write_directory(const char *path, aa__directory_fn *write, void *ctx,
                              aa_err *err) AA_MUST_USE;

/* The checkpoint that a run directory's links mean (heap), or NULL if it has none. */
aa_status aa__follow_links(const char *run, char **out, aa_err *err) AA_MUST_USE;
/* What kind of thing dir/name is. */
aa_status aa__kind_of(aa_sys_kind *out, const char *dir, const char *name, aa_err *err) AA_MUST_USE;

#endif
