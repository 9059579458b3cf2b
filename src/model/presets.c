/* model/presets: named shapes.
 *
 * pico to medium are a ladder for minutes to hours on a few cores, from which `--preset auto`
 * chooses: with about 2e13 FLOP to spend, a small model that sees many tokens wins by half a nat
 * over a 20-million-parameter one. The
 * reference family is the published from-scratch recipe of the original AutoANE, whose branches are
 * scaled by 1/sqrt(2L); the rest are shapes of published models, to load or to plan with.
 */
#include <string.h>
#include "model/config.h"

#define SHAPE(C, L, H, K, F, T) .dim = C, .layers = L, .heads = H, .kv_heads = K, .ffn = F, .seq = T

/* Norms on q and k, one table for embedding and head: both measured, docs/recipes.md. */
#define SMALL(C, L, H, K, D, F, T) \
    SHAPE(C, L, H, K, F, T), .head_dim = D, .arch = AA_ARCH_QWEN3, .tied = true

/* 1/sqrt(2*4): all of the reference family has four layers. */
#define REFERENCE_SCALE 0.35355339059327379

const aa_preset aa_presets[] = {
    {"pico", "48 wide, 4 layers: seconds",
     {SMALL(48, 4, 2, 1, 24, 128, 128)}, true},
    {"nano", "64 wide, 4 layers: a minute on two cores",
     {SMALL(64, 4, 2, 1, 32, 192, 128)}, true},
    {"tiny", "96 wide, 4 layers: two minutes",
     {SMALL(96, 4, 3, 1, 32, 256, 128)}, true},
    {"micro", "128 wide, 4 layers: five minutes",
     {SMALL(128, 4, 4, 2, 32, 352, 128)}, true},
    {"milli", "192 wide, 4 layers: a quarter of an hour",
     {SMALL(192, 4, 6, 2, 32, 512, 128)}, true},
    {"mini", "256 wide, 4 layers: half an hour",
     {SMALL(256, 4, 4, 2, 64, 704, 128)}, true},
    {"small", "384 wide, 6 layers: hours",
     {SMALL(384, 6, 6, 2, 64, 1024, 256)}, true},
    {"medium", "512 wide, 8 layers: a day",
     {SMALL(512, 8, 8, 4, 64, 1408, 256)}, true},
    {"reference", "512 wide, 4 layers: the original AutoANE's autoresearch model",
     {SHAPE(512, 4, 8, 2, 1408, 128), .tied = true, .residual_scale = REFERENCE_SCALE}, false},
    {"reference-1024", "1024 wide, 4 layers: the original's default model",
     {SHAPE(1024, 4, 16, 4, 2816, 256), .tied = true, .residual_scale = REFERENCE_SCALE}, false},
    {"reference-1536", "1536 wide, 4 layers: the original's autoresearch_1536",
     {SHAPE(1536, 4, 24, 6, 4224, 256), .tied = true, .residual_scale = REFERENCE_SCALE}, false},
    {"reference-2048", "2048 wide, 4 layers: the original's autoresearch_2048",
     {SHAPE(2048, 4, 32, 8, 5632, 256), .tied = true, .residual_scale = REFERENCE_SCALE}, false},
    {"stories110m", "llama2.c's largest story model",
     {SHAPE(768, 12, 12, 12, 2048, 1024), .vocab = 32000, .tied = true}, false},
    {"smollm2-135m", "SmolLM2 135M",
     {SHAPE(576, 30, 9, 3, 1536, 8192), .vocab = 49152, .tied = true, .rope_theta = 1e5}, false},
    {"smollm2-360m", "SmolLM2 360M",
     {SHAPE(960, 32, 15, 5, 2560, 8192), .vocab = 49152, .tied = true, .rope_theta = 1e5}, false},
    {"qwen2.5-0.5b", "Qwen2.5 0.5B (biases on q, k, v)",
     {SHAPE(896, 24, 14, 2, 4864, 32768), .arch = AA_ARCH_QWEN2, .vocab = 151936, .tied = true,
      .rope_theta = 1e6}, false},
    {"qwen3-0.6b", "Qwen3 0.6B (norms on q and k, head width 128)",
     {SHAPE(1024, 28, 16, 8, 3072, 40960), .arch = AA_ARCH_QWEN3, .head_dim = 128, .vocab = 151936,
      .tied = true, .rope_theta = 1e6}, false},
    {NULL, NULL, {0}, false},
};

const aa_preset *aa_preset_find(const char *name) {
    for (const aa_preset *p = aa_presets; p->name; p++)
        if (strcmp(p->name, name) == 0) return p;
    return NULL;
}
