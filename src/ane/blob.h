/* ane/blob: weight files of MIL programs, MILBlob storage version 2.
 *
 * A file is a header of 64 bytes (u32 entries, u32 version 2), then for each tensor a record of 64
 * bytes at a multiple of 64 (u32 0xDEADBEEF, u32 type, u64 bytes, u64 offset of the data from the
 * start of the file, u64 padding in bits) and its data at a multiple of 64. Little-endian. What a
 * program calls the offset of a tensor is that of its record.
 * Source: apple/coremltools, mlmodel/src/MILBlob. */
#ifndef AA_ANE_BLOB_H
#define AA_ANE_BLOB_H

#include "ane/mil.h"

enum { AA_BLOB_ALIGN = 64 };

/* A file being made, in memory. */
typedef struct aa_blob_writer {          /* {0} is empty */
    aa_text bytes;                       /* the file, after aa_blob_finish */
    uint32_t n_entries;
} aa_blob_writer;

/* Appends size_bytes of values of type t; the offset is that of the record. */
uint64_t aa_blob_add(aa_blob_writer *w, aa_mil_dtype t, const void *data, uint64_t size_bytes);
/* Floats rounded to binary16, to nearest even; columns first if transpose: x is [rows, columns]. */
uint64_t aa_blob_add_fp16(aa_blob_writer *w, const float *x, int64_t rows, int64_t columns,
                          bool transpose);
aa_status aa_blob_finish(aa_blob_writer *w, aa_err *err) AA_MUST_USE;
void aa_blob_writer_release(aa_blob_writer *w);

typedef struct aa_blob_entry {
    aa_mil_dtype dtype;
    uint64_t size_bytes;
    const void *data;                    /* inside the file */
} aa_blob_entry;
/* The tensor whose record is at offset, in a file of size bytes at `file`, for messages `name`.
 * Everything is checked: version, sentinel, type, alignment, and that the data lie in the file. */
aa_status aa_blob_read(aa_blob_entry *out, const void *file, uint64_t size, uint64_t offset,
                       const char *name, aa_err *err) AA_MUST_USE;
/* The same, and that the tensor has the type a program declares for it. */
aa_status aa_blob_tensor(aa_blob_entry *out, const void *file, uint64_t size, uint64_t offset,
                         const aa_mil_type *type, const char *name, aa_err *err) AA_MUST_USE;

#endif
