/* convert/gguf_names: what GGUF calls the things we know by other names, one table for each kind of
 * thing, used by the reader and the writer. */
#include <stdio.h>
#include <string.h>
#include "convert/gguf_int.h"

/* ---- tensors: between "model.layers.N." or "blk.N." and ".weight" or ".bias" ----------------- */

static const struct { const char *ours, *theirs; } outer[] = {
    {"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"}, {"lm_head", "output"},
}, inner[] = {
    {"input_layernorm", "attn_norm"},
    {"self_attn.q_proj", "attn_q"}, {"self_attn.k_proj", "attn_k"}, {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"}, {"self_attn.k_norm", "attn_k_norm"},
    {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate_proj", "ffn_gate"}, {"mlp.up_proj", "ffn_up"}, {"mlp.down_proj", "ffn_down"},
};
enum { N_OUTER = sizeof outer / sizeof *outer, N_INNER = sizeof inner / sizeof *inner };

/* The part of a name before the last point; *tail is the rest. */
static size_t stem_of(const char *name, const char **tail) {
    *tail = strrchr(name, '.');
    return *tail ? (size_t)(*tail - name) : 0;
}

static bool is(const char *name, const char *s, size_t n) {
    return strlen(name) == n && memcmp(name, s, n) == 0;
}

bool aa__gguf_name(const char *ours, char out[AA__GGUF_NAME]) {
    const char *tail;
    size_t n = stem_of(ours, &tail);
    int layer, at = 0;

    for (size_t i = 0; i < N_OUTER; i++)
        if (is(outer[i].ours, ours, n))
            return snprintf(out, AA__GGUF_NAME, "%s%s", outer[i].theirs, tail) < AA__GGUF_NAME;
    if (sscanf(ours, "model.layers.%9d.%n", &layer, &at) != 1 || !at || (size_t)at > n)
        return false;
    for (size_t i = 0; i < N_INNER; i++)
        if (is(inner[i].ours, ours + at, n - (size_t)at))
            return snprintf(out, AA__GGUF_NAME, "blk.%d.%s%s", layer, inner[i].theirs, tail) <
                   AA__GGUF_NAME;
    return false;
}

bool aa__gguf_ours(const char *theirs, char out[AA__GGUF_NAME]) {
    const char *tail;
    size_t n = stem_of(theirs, &tail);
    int layer, at = 0;

    for (size_t i = 0; i < N_OUTER; i++)
        if (is(outer[i].theirs, theirs, n))
            return snprintf(out, AA__GGUF_NAME, "%s%s", outer[i].ours, tail) < AA__GGUF_NAME;
    if (sscanf(theirs, "blk.%9d.%n", &layer, &at) != 1 || !at || (size_t)at > n) return false;
    for (size_t i = 0; i < N_INNER; i++)
        if (is(inner[i].theirs, theirs + at, n - (size_t)at))
            return snprintf(out, AA__GGUF_NAME, "model.layers.%d.%s%s", layer, inner[i].ours,
                            tail) < AA__GGUF_NAME;
    return false;
}

/* Rotary pairs of arch llama are neighbours, those of the others half a head apart. */
size_t aa__gguf_paired(const aa_config *c, const char *ours) {
    bool turned = strstr(ours, ".q_proj.") || strstr(ours, ".k_proj.");

    return turned && c->arch == AA_ARCH_LLAMA ? (size_t)c->head_dim : 0;
}

/* ---- types ----------------------------------------------------------------------------------- */

/* general.file_type: what most of the weights are. */
static const struct { aa_type type; int file_type; } file_types[] = {
    {AA_TYPE_F32, 0},   {AA_TYPE_F16, 1},   {AA_TYPE_Q4_0, 2},  {AA_TYPE_Q4_1, 3},
    {AA_TYPE_Q8_0, 7},  {AA_TYPE_Q5_0, 8},  {AA_TYPE_Q5_1, 9},  {AA_TYPE_Q2_K, 10},
    {AA_TYPE_Q3_K, 11}, {AA_TYPE_Q4_K, 14}, {AA_TYPE_Q5_K, 16}, {AA_TYPE_Q6_K, 18},
    {AA_TYPE_IQ4_NL, 25}, {AA_TYPE_IQ4_XS, 30}, {AA_TYPE_BF16, 32},
};

int aa__gguf_file_type(aa_type type) {
    for (size_t i = 0; i < sizeof file_types / sizeof *file_types; i++)
        if (file_types[i].type == type) return file_types[i].file_type;
    return -1;
}

bool aa__gguf_type_of(uint32_t theirs, aa_type *out) {
    const char *name = aa_gguf_type_name(theirs);

    for (int t = 0; name && t < AA_TYPE_COUNT; t++)
        if (strcmp(aa_type_name((aa_type)t), name) == 0) {
            *out = (aa_type)t;
            return true;
        }
    return false;
}

/* ---- configuration --------------------------------------------------------------------------- */

const aa__gguf_size aa__gguf_sizes[] = {
    {"block_count", offsetof(aa_config, layers), true},
    {"context_length", offsetof(aa_config, seq), true},
    {"embedding_length", offsetof(aa_config, dim), true},
    {"feed_forward_length", offsetof(aa_config, ffn), true},
    {"attention.head_count", offsetof(aa_config, heads), true},
    {"attention.head_count_kv", offsetof(aa_config, kv_heads), false},
    {"attention.key_length", offsetof(aa_config, head_dim), false},
    {"attention.value_length", offsetof(aa_config, head_dim), false},
    {"rope.dimension_count", offsetof(aa_config, head_dim), false},
    {"vocab_size", offsetof(aa_config, vocab), false},
    {0}};
