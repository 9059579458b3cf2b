/* convert: models from one file format to another.
 *
 * Writers take any source (convert/source.h) and stream it: at no time is more in memory than a few
 * rows, and what was read of a mapped file is let go behind.
 */
#ifndef AA_CONVERT_CONVERT_H
#define AA_CONVERT_CONVERT_H

#include "base/pool.h"
#include "convert/source.h"

typedef struct aa_gguf_options {
    /* Of the matrices, where the type can hold their rows (fallbacks: gguf_write.c). AA_TYPE_COUNT:
     * as the source has them. Vectors are F32, as llama.cpp wants them. */
    aa_type type;
    bool mixed;              /* with Q4_K: the mixture that llama.cpp calls Q4_K_M */
    uint64_t shard_bytes;    /* most bytes of tensors in one file, if more than one fits; 0: all */
    const char *name;        /* general.name; NULL: that of the file */
    aa_pool *pool;           /* quantises by all its threads; NULL: by one. The same bits. */
} aa_gguf_options;

/* path: the file; of several it becomes NAME-00001-of-00003.gguf and so on. Weights that keep their
 * type keep their bits. Of a source that is GGUF all keys are kept. */
aa_status aa_gguf_write(const char *path, aa_source *s, const aa_gguf_options *o,
                        aa_err *err) AA_MUST_USE;

/* Writes the Modelfile of Ollama beside a GGUF file, unless a Modelfile of somebody else is there,
 * or the model is in several files, which Ollama does not take. *out_written tells. */
aa_status aa_ollama_write(const char *gguf_path, aa_source *s, bool *out_written,
                          aa_err *err) AA_MUST_USE;

#endif
