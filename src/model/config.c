/* model/config: filling in, checking and pricing a configuration, and the frequencies of its rotary
 * embedding.
 *
 * Configurations come from files and command lines, so every size is bounded here, once, such that
 * no product of sizes computed later can overflow: the largest, layers * (widest matrix), is below
 * 2^53.
 */
#include "model/config.h"

#include <math.h>
#include "base/text.h"

static const char *const arch_names[AA_ARCH_COUNT] = {"llama", "qwen2", "qwen3"};

const char *aa_arch_name(int arch) {
    return arch >= 0 && arch < AA_ARCH_COUNT ? arch_names[arch] : "unknown";
}

typedef struct range { const char *name; size_t at; int64_t lo, hi; } range;

static const range ranges[] = {
    {"dim", offsetof(aa_config, dim), 1, 1 << 17},
    {"layers", offsetof(aa_config, layers), 1, 1024},
    {"heads", offsetof(aa_config, heads), 1, 1024},
    {"kv-heads", offsetof(aa_config, kv_heads), 1, 1024},
    {"head-dim", offsetof(aa_config, head_dim), 2, 1024},
    {"ffn", offsetof(aa_config, ffn), 1, 1 << 20},
    {"vocab", offsetof(aa_config, vocab), 1, 1 << 24},
    {"seq", offsetof(aa_config, seq), 1, 1 << 24},
};

static int64_t or_else(int64_t value, int64_t otherwise) { return value ? value : otherwise; }

static void fill(aa_config *c) {
    bool qwen = c->arch == AA_ARCH_QWEN2 || c->arch == AA_ARCH_QWEN3;
    int64_t dim = c->dim > 0 && c->dim <= 1 << 17 ? c->dim : 0;

    c->heads = or_else(c->heads, dim < 64 ? 1 : dim / 64);
    c->kv_heads = or_else(c->kv_heads, c->heads);
    if (!c->head_dim && c->heads > 0 && dim % c->heads == 0) c->head_dim = dim / c->heads;
    c->ffn = or_else(c->ffn, (dim * 8 / 3 + 63) / 64 * 64);
    c->seq = or_else(c->seq, 256);
    if (c->head_rank) c->head_full = or_else(c->head_full, 2000);
    if (c->arch == AA_ARCH_QWEN2) c->qkv_bias = true;
    if (c->arch == AA_ARCH_QWEN3) c->qk_norm = true;
    if (c->rope_theta == 0) c->rope_theta = 10000;
    if (c->norm_eps == 0) c->norm_eps = qwen ? 1e-6 : 1e-5;
    if (c->residual_scale == 0) c->residual_scale = 1;
}

static void check_shape(const aa_config *c, aa_text *problems) {
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        int64_t value = *(const int64_t *)((const char *)c + ranges[i].at);
        if (value < ranges[i].lo || value > ranges[i].hi)
            aa_text_printf(problems, "; %s is %lld, allowed %lld to %lld", ranges[i].name,
                           (long long)value, (long long)ranges[i].lo, (long long)ranges[i].hi);
    }
    if (c->head_dim == 0 && c->heads > 0 && c->dim > 0 && c->dim % c->heads)
        aa_text_printf(problems, "; dim %lld is no multiple of heads %lld: give head-dim",
                       (long long)c->dim, (long long)c->heads);
    if (c->head_dim % 2)
        aa_text_printf(problems, "; head-dim %lld must be even", (long long)c->head_dim);
    if (c->kv_heads > 0 && c->heads % c->kv_heads)
        aa_text_printf(problems, "; heads %lld is no multiple of kv-heads %lld",
                       (long long)c->heads, (long long)c->kv_heads);
}

/* What the architecture's own configuration file could not express would be lost on writing. */
static void check_arch(const aa_config *c, aa_text *problems) {
    if (c->arch < 0 || c->arch >= AA_ARCH_COUNT)
        aa_text_printf(problems, "; architecture number %d, allowed 0 to %d", c->arch,
                       AA_ARCH_COUNT - 1);
    else if (c->qk_norm && c->arch != AA_ARCH_QWEN3)
        aa_text_printf(problems, "; %s has no q/k norm: use qwen3", aa_arch_name(c->arch));
    if (c->arch == AA_ARCH_QWEN2 && c->out_bias)
        aa_text_add(problems, "; qwen2 has no bias on the attention output");
    if (c->arch != AA_ARCH_QWEN2 && c->qkv_bias != c->out_bias)
        aa_text_printf(problems, "; %s has biases on all four attention maps or on none",
                       aa_arch_name(c->arch));
    if (c->arch != AA_ARCH_LLAMA && c->mlp_bias)
        aa_text_printf(problems, "; %s has no feed-forward biases", aa_arch_name(c->arch));
}

static void check_head(const aa_config *c, aa_text *problems) {
    if (c->dim < 1 || c->vocab < 1) return;      /* named already */
    if (c->head_rank == 0 && c->head_full != 0)
        aa_text_add(problems, "; head-full is for a low-rank head: give head-rank too");
    if (c->head_rank == 0) return;
    if (c->head_rank < 0 || c->head_rank >= c->dim)
        aa_text_printf(problems, "; head-rank is %lld, allowed 1 to %lld (below dim), 0 for none",
                       (long long)c->head_rank, (long long)c->dim - 1);
    if (c->head_full < 1 || c->head_full >= c->vocab)
        aa_text_printf(problems, "; head-full is %lld, allowed 1 to %lld (below the vocabulary)",
                       (long long)c->head_full, (long long)c->vocab - 1);
}

static void check_numbers(const aa_config *c, aa_text *problems) {
    if (!(c->rope_theta >= 1 && c->rope_theta <= 1e12))
        aa_text_printf(problems, "; rope-theta is %g, allowed 1 to 1e12", c->rope_theta);
    if (!(c->norm_eps > 0 && c->norm_eps <= 0.1))
        aa_text_printf(problems, "; norm-eps is %g, allowed above 0 to 0.1", c->norm_eps);
    if (!(c->residual_scale > 0 && c->residual_scale <= 10))
        aa_text_printf(problems, "; residual-scale is %g, allowed above 0 to 10",
                       c->residual_scale);
    if (c->rope_scaling < AA_ROPE_PLAIN || c->rope_scaling > AA_ROPE_LLAMA3)
        aa_text_printf(problems, "; rope scaling number %d, allowed 0 to %d", c->rope_scaling,
                       AA_ROPE_LLAMA3);
    if (c->rope_scaling != AA_ROPE_PLAIN && !(c->rope_factor >= 1 && c->rope_factor <= 1e6))
        aa_text_printf(problems, "; the rope factor is %g, allowed 1 to 1e6", c->rope_factor);
    if (c->rope_scaling != AA_ROPE_LLAMA3) return;
    if (!(c->rope_low_freq > 0 && c->rope_low_freq < c->rope_high_freq && c->rope_high_freq < 1e6))
        aa_text_printf(problems, "; rope frequency factors are low %g, high %g; needed: 0 < low < "
                       "high < 1e6", c->rope_low_freq, c->rope_high_freq);
    if (c->rope_original_seq < 1 || c->rope_original_seq > 1 << 24)
        aa_text_printf(problems, "; the original length of rope scaling is %lld, allowed 1 to %d",
                       (long long)c->rope_original_seq, 1 << 24);
}

aa_status aa_config_resolve(aa_config *c, aa_err *err) {
    aa_config filled = *c;
    aa_text problems = {0};
    aa_status st = AA_OK;

    fill(&filled);
    check_shape(&filled, &problems);
    check_arch(&filled, &problems);
    check_head(&filled, &problems);
    check_numbers(&filled, &problems);
    if (problems.failed) st = aa_text_status(&problems, err);
    else if (problems.len) st = aa_fail(err, AA_EUSAGE, "model: %s", problems.data + 2);
    else *c = filled;
    aa_text_release(&problems);
    return st;
}

double aa_config_flop_forward(const aa_config *c, size_t T) {
    double C = (double)c->dim, F = (double)c->ffn;
    double Q = (double)(c->heads * c->head_dim), KV = (double)(c->kv_heads * c->head_dim);
    double maps = C * (Q + 2 * KV) + Q * C + 3 * C * F;
    double attention = 2 * Q * ((double)T + 1) / 2;      /* scores and values, mean causal length */
    double V = (double)c->vocab, R = (double)c->head_rank, N = (double)c->head_full;
    double head = c->head_rank ? N * C + R * C + (V - N) * R : V * C;

    return 2 * ((double)c->layers * (maps + attention) + head);
}

/* One inverse frequency under llama3 scaling: long wavelengths are stretched by the factor, short
 * ones stay, between them a linear blend over original_seq/wavelength. */
static double llama3(const aa_config *c, double f) {
    double wavelength = 2 * 3.14159265358979323846 / f, original = (double)c->rope_original_seq;
    double low = c->rope_low_freq, high = c->rope_high_freq;

    if (wavelength < original / high) return f;
    if (wavelength > original / low) return f / c->rope_factor;
    double blend = (original / wavelength - low) / (high - low);
    return (1 - blend) * f / c->rope_factor + blend * f;
}

void aa_config_rope_frequencies(const aa_config *c, double *out) {
    for (int64_t i = 0; i < c->head_dim / 2; i++) {
        double f = pow(c->rope_theta, -2.0 * (double)i / (double)c->head_dim);

        if (c->rope_scaling == AA_ROPE_LINEAR) f /= c->rope_factor;
        if (c->rope_scaling == AA_ROPE_LLAMA3) f = llama3(c, f);
        out[i] = f;
    }
}
