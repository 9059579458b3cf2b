/* model: the transformer.
 *
 *     x = E[ids]
 *     per block:
 *         n = rmsnorm(x)
 *         x = x + s (Wo attention(rope(norm_q(Wq n)), rope(norm_k(Wk n)), Wv n) + bo)
 *         m = rmsnorm(x)
 *         x = x + s (Wdown (silu(Wgate m) * (Wup m)) + b)
 *     logits = Whead rmsnorm(x)          (Whead may be low-rank by frequency: table.c)
 *
 * Owns the config, the parameter table, the activation plan, forward, backward and the KV cache.
 * Knows nothing of files, tokenizers, optimizers or time.
 *
 * Memory is laid out by functions that run twice: on a measuring arena for the plan, and for real.
 */
#ifndef AA_MODEL_MODEL_H
#define AA_MODEL_MODEL_H

#include "base/memory.h"
#include "base/rng.h"
#include "model/backend.h"
#include "model/config.h"
#include "num/num.h"

typedef struct aa_block {                 /* views of one block's rows */
    aa_tensor *norm_attn, *norm_ffn, *q_norm, *k_norm;   /* the last two NULL without qk_norm */
    aa_linear qkv, out, gate_up, down;
} aa_block;

/* Gradients of embedding lookups of one update, kept apart while the embedding is also the head:
 * the head's gradient sums over every token of the update, and adding lookups in between would make
 * the bits depend on how the update is split into micro-batches. Only rows that were looked up take
 * room, in grads and ids: ids with a row of full width from the front, ids with a code (a low-rank
 * table) from the back. */
typedef struct aa_lookup {
    size_t max_tokens, max_rows;          /* per update */
    size_t n_rows, n_coded;               /* rows in use, from the front and from the back */
    int32_t *slot;                        /* [V] 1 + the id's row in grads, 0: none yet */
    int32_t *ids;                         /* [max_rows] the id of each row */
    int32_t *token_slot;                  /* [max_tokens] row of each token of the current call */
    aa_real *grads;                       /* [max_rows][C], zero where not in use */
    aa_real *codes;                       /* [max_rows][R] scratch; low-rank tables */
} aa_lookup;

typedef struct aa_lora aa_lora;           /* lora.h */

typedef struct aa_model {
    aa_config config;
    size_t n_tensors; aa_tensor *tensors; /* the parameter table, in memory order */
    size_t n_base;                        /* the others, behind these, are an adapter's */
    const aa_lora *lora;                  /* NULL: no adapter, and every row trains */
    aa_tensor *embedding, *norm_final;
    aa_linear head;                       /* weight == embedding when tied; [V,C], or [N,C] and */
    aa_linear basis, code;                /* [R,C], [V-N,R]; else empty: table.c */
    aa_block *blocks;                     /* [layers] */
    aa_real *params, *grads;              /* [span] each: all rows, and zeros in alignment gaps */
    size_t span;
    size_t *grad_at;                      /* BLOCK_GRADS: [n_tensors] of the row, in grads */
    int first_trained;                    /* layers below have no gradients */
    aa_stored *stored;                    /* [n_tensors] AA_MODEL_STORED: where matrices lie */
    aa_real *rope_table;                  /* [n_pos][D] cos | sin */
    size_t n_pos;
    aa_lookup lookup;                     /* tied models that train: aa_model_lookup_init */
} aa_model;

/* STORED: matrices and token tables stay in the file they come from, whose reader fills in where
 * they lie (aa_source_load); only vectors, and of an adapter what trains, have memory. Whole head.
 * GRADS go with it only where there is an adapter: what stays in a file does not train.
 * BLOCK_GRADS: with GRADS, memory for those of the one block that aa_model_choose_block names. */
typedef enum {
    AA_MODEL_PARAMS = 0,
    AA_MODEL_GRADS = 1,
    AA_MODEL_PACKED = 2,
    AA_MODEL_STORED = 4,
    AA_MODEL_BLOCK_GRADS = 8
} aa_model_parts;

/* The parameter table without memory: names, kinds, shapes. Table order: embedding; per block
 * norm_attn, q, k, v (then their biases), o (bias), q_norm, k_norm, norm_ffn, gate, up (biases),
 * down (bias); final norm; head if untied. A low-rank head is three rows: of full width, code and
 * basis. Call with rows NULL to count. */
size_t aa_model_rows(const aa_config *c, aa_tensor *rows, size_t max);
/* With an adapter's rows behind them: per block and linear map all A (joined), then all B. */
size_t aa_model_lora_rows(const aa_config *c, const aa_lora *lora, aa_tensor *rows, size_t max);

/* Lays a model out in an arena (also a measuring one). Config must be resolved. cpu decides the
 * packed layout. n_pos: positions the rope table covers (>= seq). */
aa_status aa_model_init(aa_model *m, const aa_config *c, unsigned parts, size_t n_pos, aa_cpu *cpu,
                        aa_arena *arena, aa_err *err) AA_MUST_USE;
/* The same with an adapter (borrowed), which must not be PACKED. */
aa_status aa_model_init_lora(aa_model *m, const aa_config *c, const aa_lora *lora, unsigned parts,
                             size_t n_pos, aa_cpu *cpu, aa_arena *arena, aa_err *err) AA_MUST_USE;
/* Room for the lookup gradients of updates of up to update_tokens tokens (all micro-batches
 * together). Does nothing unless tied. Without it lookups go straight into the gradient: right, but
 * a split batch then differs in the last bits. A tied low-rank table needs it to train. */
aa_status aa_model_lookup_init(aa_model *m, size_t update_tokens, aa_arena *arena,
                               aa_err *err) AA_MUST_USE;
/* Initial weights from a seed (spreads: init.c). A row's numbers depend on seed and name alone.
 * Output projections are scaled by 1/sqrt(2L) or zero. */
typedef enum { AA_INIT_SCALED, AA_INIT_ZERO_OUT } aa_init_scheme;
void aa_model_init_weights(aa_model *m, uint64_t seed, aa_init_scheme scheme);
/* Of a model with BLOCK_GRADS: from now on the rows of a layer train, or, block being the number of
 * layers, those of none (tables, last norm). Gradients must be zero, as an update leaves them. */
void aa_model_choose_block(aa_model *m, int block);
void aa_model_changed(aa_model *m);       /* raises every row's version */
/* The head's rows of n ids (and the lookup's, if tied), rows[n,C], whether whole or low-rank. codes
 * [n,R] is scratch. */
void aa_model_head_rows(const aa_model *m, aa_cpu *cpu, const int32_t *ids, size_t n,
                        aa_real *codes, aa_real *rows);
aa_tensor *aa_model_find(const aa_model *m, const char *name);      /* NULL if absent */

/* ---- passes ---------------------------------------------------------------------------------- */

/* B sequences of T rows each; or, with start, B of any lengths up to T: sequence b has the rows
 * start[b] to start[b+1] of N = start[B]. Positions begin anew in each, none sees another, and each
 * has the losses that it has alone, to the bit. */
typedef struct aa_batch {
    size_t B, T;                          /* sequences, window */
    const int32_t *ids, *targets;         /* [B,T] or [N]; target < 0: no loss at this position */
    const int32_t *start;                 /* [B+1] ascending from 0; NULL: all are T long */
    /* For masks of an adapter's dropout: the update this is part of, and its rows before these. */
    uint64_t update;
    size_t first;
} aa_batch;

typedef struct aa_activations aa_activations;     /* activations.h; one for up to max_rows tokens */
typedef enum { AA_PASS_TRAIN, AA_PASS_EVAL, AA_PASS_CHECKPOINT } aa_pass;

/* pass EVAL keeps nothing for backward, CHECKPOINT only what enters each block: backward then runs
 * the block forward again (Chen et al. 2016, arXiv:1604.06174), to the same bits as TRAIN.
 * head_rows: tokens per logits chunk (0: chosen). */
aa_status aa_activations_new(aa_activations **out, const aa_model *m, aa_pass pass, size_t max_B,
                             size_t T, size_t head_rows, aa_arena *arena, aa_err *err) AA_MUST_USE;

/* Loss of every position: loss[B*T], or [N] (nats; 0 where masked); NULL: the blocks alone run, for
 * a backend that looks. */
aa_status aa_model_loss(aa_model *m, aa_backend *be, aa_activations *a, const aa_batch *b,
                        aa_real *loss, aa_err *err) AA_MUST_USE;
/* Same, and adds gradient_scale * d(sum of losses) to every row's grad. A batch split into several
 * calls leaves the same bits in grad as one call. An update ends with aa_model_finish_grads. */
aa_status aa_model_loss_and_grad(aa_model *m, aa_backend *be, aa_activations *a, const aa_batch *b,
                                 aa_real *loss, aa_real gradient_scale, aa_err *err) AA_MUST_USE;

/* Adds the lookup gradients kept apart to the embedding's gradient: once per update, after its last
 * micro-batch and before anyone reads grads. Nothing to do (and no harm) when there are none. */
void aa_model_finish_grads(aa_model *m, aa_cpu *cpu);

/* ---- incremental ----------------------------------------------------------------------------- */

typedef struct aa_kv {                    /* keys (after rope) and values of what was read so far */
    size_t len, capacity, width;          /* positions; width = K*D */
    aa_real *k, *v;                       /* [layers][capacity][width] each */
    uint16_t *k16, *v16;                  /* in binary16, instead */
} aa_kv;
aa_status aa_kv_init(aa_kv *kv, const aa_model *m, size_t capacity, bool half, aa_arena *arena,
                     aa_err *err) AA_MUST_USE;
/* Reads n more ids in one pass (a prompt, or one token) and gives the logits after the last one,
 * [V]. activations made with max_B = 1, T >= n, pass EVAL. */
aa_status aa_model_extend(aa_model *m, aa_backend *be, aa_activations *a, aa_kv *kv,
                          const int32_t *ids, size_t n, aa_real *logits, aa_err *err) AA_MUST_USE;
/* Reads n more ids and gives the loss of each one's target instead, loss[n]. */
aa_status aa_model_extend_loss(aa_model *m, aa_backend *be, aa_activations *a, aa_kv *kv,
                               const int32_t *ids, const int32_t *targets, size_t n, aa_real *loss,
                               aa_err *err) AA_MUST_USE;

#endif
