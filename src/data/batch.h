/* data/batch: which tokens a step sees.
 *
 * The documents of one part, end to end, form a stream; it is cut into windows of T+1 tokens that
 * overlap by one (the last target of a window is the first input of the next). Epoch e visits every
 * window once, in the order of a keyed permutation, shifted by a keyed offset below T. Window
 * number n is a function of (seed, n): there is no state but n, so resume, accumulation and
 * threads cannot change what is seen.
 */
#ifndef AA_DATA_BATCH_H
#define AA_DATA_BATCH_H

#include "data/tokens.h"

typedef struct aa_stream {                  /* one part of a token file as one sequence */
    const aa_tokens *tokens; aa_part part;
    uint64_t n_tokens, n_ranges;
    /* Heap: of each run of adjacent documents of the part,
     * its position in the file and in the stream. */
    uint64_t *range_first, *range_start;
    const int32_t *map;                     /* full id -> model id (compact vocabulary), or NULL */
} aa_stream;

/* AA_PART_COUNT: all documents. */
aa_status aa_stream_init(aa_stream *out, const aa_tokens *tokens, aa_part part,
                         aa_err *err) AA_MUST_USE;
void aa_stream_release(aa_stream *s);
/* Copies n ids from stream position at; both within n_tokens. */
void aa_stream_read(const aa_stream *s, uint64_t at, size_t n, int32_t *out);

/* Windows per epoch, 0 if the stream is too short. */
uint64_t aa_stream_windows(const aa_stream *s, size_t T);
/* Training window number n (any n; epochs follow each other): ids[T], targets[T] (next ids). */
void aa_stream_window(const aa_stream *s, uint64_t seed, uint64_t n, size_t T, int32_t *ids,
                      int32_t *targets);
/* Windows of an evaluation: all that lie end to end. */
uint64_t aa_stream_eval_windows(const aa_stream *s, size_t T);
/* Fixed evaluation window i of n_windows spread evenly over the stream, the same for every run. */
void aa_stream_eval_window(const aa_stream *s, uint64_t i, uint64_t n_windows, size_t T,
                           int32_t *ids, int32_t *targets);

/* Compact vocabulary of n ascending ids below vocab: map has vocab entries (-1: absent), to be
 * freed by the caller. */
aa_status aa_compact_map(const int32_t *ids, size_t n, uint64_t vocab, int32_t **out_map,
                         aa_err *err) AA_MUST_USE;
/* The stream gives ids through map (borrowed; one entry for each id of t). Refuses a stream with
 * ids that map lacks, to which such a model gives no probability, with their number and the first.
 */
aa_status aa_stream_restrict(aa_stream *s, const int32_t *map, const aa_tokenizer *t,
                             aa_err *err) AA_MUST_USE;

/* Compact vocabulary of a file: ids that occur anywhere in it, ascending. *out_map has vocab
 * entries (-1: absent), *out_ids has *out_n. Heap-owned by the caller. */
aa_status aa_compact_vocabulary(const aa_tokens *t, uint64_t vocab, int32_t eos, int32_t **out_map,
                                int32_t **out_ids, size_t *out_n, aa_err *err) AA_MUST_USE;
/* Puts ids [n], some or all of vocab, in order of falling frequency in a part, of two as frequent
 * the lower first, and sets map[vocab] to where each one went (-1: not among them). */
aa_status aa_rank_vocabulary(const aa_tokens *t, aa_part part, uint64_t vocab, int32_t *map,
                             int32_t *ids, size_t n, aa_err *err) AA_MUST_USE;

#endif
