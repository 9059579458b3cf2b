/* model/lora: adapters that train beside a frozen model.
 *
 *     y = W x + s B A x          s = alpha / rank, or alpha / sqrt(rank)
 *
 * on any of the seven linear maps of a block (Hu et al. 2021, arXiv:2106.09685; rsLoRA:
 * Kalajdzievski 2023, arXiv:2312.03732). A and B are rows of the parameter table, behind those of
 * the base model; of these only the ones named here have gradients. The term is never multiplied
 * into W, which may stay in its file (num/gemm.c: one more stretch of the same sum).
 *
 * With DoRA (num/magnitude.c) each row of W + s B A has a length of its own, the magnitude, which
 * trains; the length it comes out with counts as a constant in backward.
 *
 * Dropout: in aa_model_loss_and_grad the term sees x with elements dropped, one mask for each
 * (update, block, map), so q, k and v share theirs; W sees x as it is.
 */
#ifndef AA_MODEL_LORA_H
#define AA_MODEL_LORA_H

#include "model/model.h"

typedef enum {
    AA_TARGET_Q, AA_TARGET_K, AA_TARGET_V, AA_TARGET_O, AA_TARGET_GATE, AA_TARGET_UP,
    AA_TARGET_DOWN, AA_TARGET_COUNT
} aa_target;
const char *aa_target_name(aa_target target);         /* "q" ... "down" */
const char *aa_target_module(aa_target target);       /* "self_attn.q_proj" ... */

enum { AA_LORA_MAX_RANK = 256 };

typedef struct aa_lora_site {
    size_t rank;                          /* 1..AA_LORA_MAX_RANK; 0: no adapter here */
    double alpha;
} aa_lora_site;

struct aa_lora {
    const aa_lora_site *site;             /* [layers][AA_TARGET_COUNT], borrowed by the model */
    bool rslora;                          /* s = alpha / sqrt(rank) */
    bool freeze_a;                        /* B alone trains (LoRA-FA: arXiv:2308.03303) */
    bool dora;                            /* magnitudes at every site; without dropout */
    double dropout; uint64_t seed;        /* 0 <= dropout < 1; seed of its masks */
    bool norms, embedding, head;          /* rows of the base that train as well, as floats */
};

double aa_lora_scale(const aa_lora *lora, const aa_lora_site *site);
const aa_lora_site *aa_lora_site_of(const aa_lora *lora, int layer, aa_target target);
/* A: uniform in +-1/sqrt(n_in), as PEFT's, each row from its own stream; B: 0; magnitudes: lengths
 * of the base's rows, which must be there. */
void aa_model_init_adapter(aa_model *m, aa_cpu *cpu, uint64_t seed);
/* The most ranks that one linear map has, all its parts together. */
size_t aa_lora_widest(const aa_lora *lora, const aa_config *c);
/* Parameters of the model that train; lora NULL: all. */
uint64_t aa_model_trained(const aa_config *c, const aa_lora *lora);
/* Numbers of A and B that all sites have. */
uint64_t aa_lora_params(const aa_lora *lora, const aa_config *c);
/* A and B of a site, or NULL if it has none. */
void aa_lora_find(const aa_model *m, int layer, aa_target target, aa_tensor **A, aa_tensor **B);
aa_tensor *aa_lora_magnitude(const aa_model *m, int layer, aa_target target);   /* or NULL */

#endif
