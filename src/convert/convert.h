/* convert: models from one file format to another.
 *
 * Writers take any source (convert/source.h) and stream it: at no time is more in memory than a few
 * rows, and what was read of a mapped file is let go behind.
 */
#ifndef AA_CONVERT_CONVERT_H
#define AA_CONVERT_CONVERT_H

#include "base/pool.h"
#include "convert/source.h"

typedef struct aa_convert_options {
    /* Of the matrices. AA_TYPE_COUNT: as the source has them, if the format can hold that. */
    aa_type type;
    uint64_t shard_bytes;    /* most bytes of tensors in one file, if more than one fits; 0: all */
    aa_pool *pool;           /* converts by all its threads; NULL: by one. The same bits. */
    bool mixed;              /* GGUF: with Q4_K, the mixture that llama.cpp calls Q4_K_M */
    const char *name;        /* GGUF: general.name; NULL: that of the file */
    bool stoppable;          /* aa_sys_interrupt_pending ends the writing with AA_EINTERRUPTED */
} aa_convert_options;

/* A format that models are written in. Weights that keep their type keep their bits. What the
 * format cannot express is refused before anything is written. */
typedef aa_status aa_model_writer(const char *path, aa_source *s, const aa_convert_options *o,
                                  aa_err *err);

/* path: the file; of several it becomes NAME-00001-of-00003.gguf and so on. A type goes to matrices
 * whose rows it can hold (fallbacks: gguf_write.c); vectors are F32, as llama.cpp wants them. Of a
 * source that is GGUF all keys are kept. */
aa_model_writer aa_gguf_write;
/* path: the file; what it cannot hold of the model goes beside it: of BLZT v4 config.json and
 * tokenizer, of llama2.c's two kinds tokenizer.bin, or tokenizer.json where it cannot be that.
 * Files of other models are not replaced. Types are F32. */
aa_model_writer aa_blzt_write, aa_llama2c_write, aa_llama2c_v1_write;
/* path: a directory, which must be empty or not be there, and appears when it is whole. Types are
 * F32, F16 or BF16, of all tensors (other floats are kept if no type is asked for); what was
 * quantised becomes F32, exactly, unless told otherwise. Of a Hugging Face source, generation
 * config and the files of the tokenizer are copied. */
aa_model_writer aa_hf_convert;

/* Writes the Modelfile of Ollama beside a GGUF file, unless a Modelfile of somebody else is there,
 * or the model is in several files, which Ollama does not take. *out_written tells. */
aa_status aa_ollama_write(const char *gguf_path, aa_source *s, bool *out_written,
                          aa_err *err) AA_MUST_USE;

#endif
