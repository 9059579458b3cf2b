/* convert/stream, private: tensors of a source on their way into a file.
 *
 * A chunk of rows is in memory at a time, converted by all threads of a pool, and what was read of
 * a mapped source is let go behind: memory does not grow with the model.
 */
#ifndef AA_CONVERT_STREAM_H
#define AA_CONVERT_STREAM_H

#include "base/file.h"
#include "base/memory.h"
#include "convert/convert.h"
#include "formats/safetensors.h"

enum { AA__ENTRY_NAME = 96 };

typedef struct aa__entry {               /* a tensor of the file that is written */
    char name[AA__ENTRY_NAME];           /* as the file calls it */
    aa_stored from; aa_type to;
    size_t paired;                       /* order of rows in the file, as aa_stored.paired_head */
    double scale;                        /* on every value; 0: none, and equal types keep bits */
    bool vector;
    bool mapped;                         /* `from` is the source's, and that is mapped */
} aa__entry;

typedef struct aa__stream {
    const char *source;                  /* for messages */
    const aa_convert_options *o;
    float *values; unsigned char *bytes; /* of a chunk */
} aa__stream;

/* Buffers for chunks of these entries, from the arena. */
void aa__stream_init(aa__stream *w, const char *source, const aa_convert_options *o,
                     const aa__entry *entries, size_t n, aa_arena *arena);
/* Refuses values that the type cannot hold, naming the tensor. */
aa_status aa__stream_entry(const aa__stream *w, const aa__entry *e, aa_outfile *f,
                           aa_err *err) AA_MUST_USE;

/* The entries, floats all, as the safetensors file dir/name; metadata: a pair, or NULL. */
aa_status aa__stream_safetensors(const aa__stream *w, const char *dir, const char *name,
                                 const aa__entry *entries, size_t n, const aa_st_pair *metadata,
                                 aa_err *err) AA_MUST_USE;

uint64_t aa__entry_bytes(const aa__entry *e);
/* The end of the file that begins with entry `begin`, if a file may hold so many bytes of tensors
 * where more than one fits; 0: all. */
size_t aa__shard_end(const aa__entry *entries, size_t n, size_t begin, uint64_t shard_bytes);
/* The type that holds most of the matrices' values. */
aa_type aa__most_common_type(const aa__entry *entries, size_t n);

#endif
