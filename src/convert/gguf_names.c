/* convert/gguf_names: what GGUF calls the things we know by other names, one table for each kind of
 * thing, used by the reader and the writer. */
#include <stdio.h>
#include <string.h>
#include "convert/gguf_int.h"

/* ---- tensors: between "model.layers.N." or "blk.N." and ".weight" or ".bias" ----------------- */

enum { OURS, THEIRS };

static const char *const outer[][2] = {
    {"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"}, {"lm_head", "output"},
};
static const char *const inner[][2] = {
    {"input_layernorm", "attn_norm"},
    {"self_attn.q_proj", "attn_q"}, {"self_attn.k_proj", "attn_k"}, {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"}, {"self_attn.k_norm", "attn_k_norm"},
    {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate_proj", "ffn_gate"}, {"mlp.up_proj", "ffn_up"}, {"mlp.down_proj", "ffn_down"},
};
enum { N_OUTER = sizeof outer / sizeof *outer, N_INNER = sizeof inner / sizeof *inner };

/* Whose it is of a table, by the first n characters of s, in the other language; or NULL. */
static const char *other_name(const char *const table[][2], size_t n_rows, int from, const char *s,
                              size_t n) {
    for (size_t i = 0; i < n_rows; i++)
        if (strlen(table[i][from]) == n && memcmp(table[i][from], s, n) == 0)
            return table[i][!from];
    return NULL;
}

static bool translate(const char *name, int from, char out[AA__GGUF_NAME]) {
    static const char *const block[] = {"model.layers.", "blk."};
    const char *tail = strrchr(name, '.'), *found;
    size_t n = tail ? (size_t)(tail - name) : 0, at = strlen(block[from]);
    int layer, digits = 0;

    if ((found = other_name(outer, N_OUTER, from, name, n)))
        return snprintf(out, AA__GGUF_NAME, "%s%s", found, tail) < AA__GGUF_NAME;
    if (strncmp(name, block[from], at) != 0 || sscanf(name + at, "%9d.%n", &layer, &digits) != 1)
        return false;
    at += (size_t)digits;
    if (!digits || at > n) return false;
    found = other_name(inner, N_INNER, from, name + at, n - at);
    return found && snprintf(out, AA__GGUF_NAME, "%s%d.%s%s", block[!from], layer, found, tail) <
                        AA__GGUF_NAME;
}

bool aa__gguf_name(const char *ours, char out[AA__GGUF_NAME]) { return translate(ours, OURS, out); }

bool aa__gguf_ours(const char *theirs, char out[AA__GGUF_NAME]) {
    return translate(theirs, THEIRS, out);
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
