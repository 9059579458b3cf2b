/* zo/ledger: the file that a zeroth-order run is.
 *
 * Append-only, little-endian, everything aligned to 8 bytes:
 *
 *     header   "AALEDGER", version, size, digests of base and of the rows at the start, of the
 *              rows' names and shapes, seed, generator, flags, every setting as JSON, then
 *              whatever the caller will want to know; checksum
 *     records  magic, kind, number of the record, size, step, checksum; then
 *       step      data id, state of the normaliser, rate, loss, first stream, n; n coefficients
 *                 exactly as applied (0 for a direction that is absent), then whatever else the
 *                 method applies
 *       basis     row, rank, columns; a float per row of A, and A as 8-bit integers
 *       estimate  scalars that a gradient basis was made of
 *       rewind    the step whose state the run went back to, and the rate's factor from there on
 *       check     digest of the rows
 *       pool      (compacted) one sum per direction of a pool, in double
 *
 * A checksum (XXH3) covers its record, mixed with that of the header, so records cannot be moved
 * between ledgers; numbers count on, so none can be missing between two. What a kill leaves is a
 * cut last record, which is known as such. 10,000 steps of 16 scalars: 1.4 MB.
 */
#ifndef AA_ZO_LEDGER_H
#define AA_ZO_LEDGER_H

#include "base/file.h"
#include "zo/zo.h"

typedef struct aa_ledger_header {
    aa_digest base;                        /* of the model's file, as the caller counts it */
    aa_digest start, space;                /* of the rows the engine writes; of names and shapes */
    uint64_t seed;
    uint32_t generator;                    /* AA_DIRECTION_GENERATOR */
    uint32_t compacted;                    /* 0 or 1 */
    aa_zo_config config;
    const char *about; size_t n_about;     /* the caller's text, up to 64 KiB, without a NUL; of a
                                            * reader: in the mapping */
} aa_ledger_header;

typedef enum aa_ledger_kind {
    AA_LEDGER_STEP = 1, AA_LEDGER_BASIS, AA_LEDGER_ESTIMATE, AA_LEDGER_REWIND, AA_LEDGER_CHECK,
    AA_LEDGER_POOL
} aa_ledger_kind;

typedef struct aa_ledger_step {
    uint64_t data;                         /* the step's first data id */
    double spread, weight;                 /* of the slow mean of standard deviations */
    float rate, loss;                      /* rate: of what is not in the coefficients */
    uint32_t first_stream;
    uint16_t n, present;                   /* directions; of these measured */
    uint32_t n_scalars;                    /* n, or 2 n with curvatures behind */
    uint32_t zero;
    const float *scalars;                  /* in memory only: [n_scalars] behind the others */
} aa_ledger_step;

typedef struct aa_ledger_record {
    aa_ledger_kind kind;
    uint32_t index;                        /* 0 for the first */
    uint64_t step, at_bytes;
    union {
        aa_ledger_step step_of;
        struct { uint32_t row, rank, n; const float *scale; const int8_t *q; } basis;
        struct { uint32_t n; const float *scalars; } estimate;
        struct { uint64_t to; double factor; } rewind; /* to: first step that is undone */
        aa_digest check;
        struct { uint64_t n, steps; const double *sums; } pool;
    };
} aa_ledger_record;

/* ---- reading: a mapped file, every byte of which may be a lie -------------------------------- */

typedef struct aa_ledger_reader {
    const char *path;                      /* borrowed */
    aa_sys_map map;
    aa_ledger_header header;
    uint64_t salt, at;                     /* where the next record begins */
    uint32_t n_read;
    uint64_t torn_bytes;                   /* of a last record that the end of the file cuts off */
    bool forgive_torn;                     /* set: such a record is the end, not a failure */
} aa_ledger_reader;

aa_status aa_ledger_open(aa_ledger_reader *out, const char *path, aa_err *err) AA_MUST_USE;
void aa_ledger_reader_close(aa_ledger_reader *r);
/* *more false at the end. Arrays point into the mapping. */
aa_status aa_ledger_next(aa_ledger_reader *r, aa_ledger_record *out, bool *more,
                         aa_err *err) AA_MUST_USE;
void aa_ledger_rewind(aa_ledger_reader *r);                /* to the first record */

/* ---- writing --------------------------------------------------------------------------------- */

/* A new file; one that exists is refused. Hybrid methods have no ledger: their gradients are in no
 * record. */
aa_status aa_ledger_create(aa_ledger **out, const char *path, const aa_ledger_header *header,
                           aa_err *err) AA_MUST_USE;
/* One that exists, cut at `at` bytes (aa_zo_resume). */
aa_status aa_ledger_append(aa_ledger **out, const char *path, uint64_t at, aa_err *err) AA_MUST_USE;
/* Flushed to the system at once (a killed process loses nothing), to the disk by sync. */
aa_status aa_ledger_write(aa_ledger *l, const aa_ledger_record *r, aa_err *err) AA_MUST_USE;
aa_status aa_ledger_sync(aa_ledger *l, aa_err *err) AA_MUST_USE;
uint64_t aa_ledger_size(const aa_ledger *l);
void aa_ledger_close(aa_ledger *l);
/* The header of a run that begins: digests of the engine as it stands. */
aa_ledger_header aa_ledger_header_of(const aa_zo *z, aa_digest base);

/* ---- whole ledgers --------------------------------------------------------------------------- */

typedef struct aa_ledger_summary {
    uint64_t size_bytes, records, steps, scalars, bases, basis_bytes, rewinds, checks;
    uint64_t first_step, last_step;
    double last_loss;
    uint64_t undone;                       /* steps that rewinds took back */
} aa_ledger_summary;

/* Reads all of it; damage fails with AA_ECORRUPT and the record's number, step and place. */
aa_status aa_ledger_verify(const char *path, aa_ledger_summary *out, aa_err *err) AA_MUST_USE;
/* One sum per direction of the pool in the place of the steps (FedKSeed, arXiv:2312.06353). Needs a
 * pool, plain sgd and a basis that never changes: only then do steps commute. The weights are those
 * of the run up to rounding. */
aa_status aa_ledger_compact(const char *in, const char *out, aa_err *err) AA_MUST_USE;
/* The mean of what n clients did from the same start, each weighted by its number of measured
 * directions: sums over a pool where there is one, else all steps with their coefficients scaled
 * (FwdLLM, arXiv:2308.13894). Same base, start, rows, seed and settings, but for zo-client, which
 * must differ. Plain sgd and a fixed basis, as above. */
aa_status aa_ledger_merge(const char *const *in, size_t n, const char *out,
                          aa_err *err) AA_MUST_USE;

#endif
