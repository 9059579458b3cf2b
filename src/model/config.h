/* model/config: what a Llama-family transformer looks like, at run time. */
#ifndef AA_MODEL_CONFIG_H
#define AA_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/option.h"
#include "base/status.h"

typedef enum { AA_ARCH_LLAMA, AA_ARCH_QWEN2, AA_ARCH_QWEN3, AA_ARCH_COUNT } aa_arch;
typedef enum { AA_ROPE_PLAIN, AA_ROPE_LINEAR, AA_ROPE_LLAMA3 } aa_rope_scaling;

typedef struct aa_config {
    int arch;                                                   /* aa_arch */
    int64_t dim, layers, heads, kv_heads, head_dim, ffn, vocab; /* C L H K D F V */
    int64_t seq;                       /* positions the model is made for (training window) */
    bool tied;                         /* head is the embedding */
    int64_t head_rank, head_full;      /* R, N of a low-rank head (table.c); rank 0: whole */
    bool qkv_bias, out_bias, mlp_bias; /* q,k,v / o / gate,up,down projections */
    bool qk_norm;                      /* RMSNorm of each q and k head before rope */
    double rope_theta;
    int rope_scaling;                            /* aa_rope_scaling */
    double rope_factor, rope_low_freq, rope_high_freq; int64_t rope_original_seq;
    double norm_eps;
    double residual_scale;                       /* x + scale * branch(x); 1 is the usual model */
} aa_config;

const char *aa_arch_name(int arch);              /* "llama", "qwen2", "qwen3" */

/* Fills what is 0 from the rest (head_dim = dim/heads, kv_heads = heads, ffn ~ 8/3 dim rounded up
 * to 64, head_full = 2000 of a low-rank head, what the architecture fixes: qwen2 biases, qwen3 q/k
 * norm) and checks every range and divisibility; all problems are named in one message. */
aa_status aa_config_resolve(aa_config *c, aa_err *err) AA_MUST_USE;

uint64_t aa_config_params(const aa_config *c);
/* Matrix-product FLOP of one token, mean over a window of T: forward; training is three times that.
 * (performance model: layers, head, causal attention; nothing else counted: neither is the product
 * of a tied low-rank table's lookups, at most R C multiply-adds.) */
double aa_config_flop_forward(const aa_config *c, size_t T);

/* Presets are rows: a name, a sentence, a config. vocab 0 = the tokenizer decides. */
typedef struct aa_preset {
    const char *name, *what;
    aa_config config;
    bool ladder;                         /* one of the sizes that a budget chooses from */
} aa_preset;
/* Those of the ladder first, growing; ends with name NULL. */
extern const aa_preset aa_presets[];
const aa_preset *aa_preset_find(const char *name);

/* Inverse frequencies of rope, [head_dim/2], scaling applied (HF: modeling_rope_utils). f64. */
void aa_config_rope_frequencies(const aa_config *c, double *out);

#endif
