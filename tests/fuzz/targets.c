#include "fuzz/targets.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "ane/blob.h"
#include "ane/check.h"
#include "ane/cost.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "convert/adapter.h"
#include "data/tokens.h"
#include "formats/safetensors.h"
#include "support/zonet.h"
#include "train/checkpoint.h"
#include "zo/ledger.h"

/* What is taken once whatever the file: buffers of readers, the least block of an arena. */
#define FIXED_BYTES ((size_t)512 << 10)

enum { MOST_ROWS = 4096, MOST_FLOATS = 1 << 20 };

static volatile unsigned char sink;      /* what is read must be read */

static void touch(const void *p, size_t n) {
    const unsigned char *bytes = p;
    unsigned char sum = 0;
    for (size_t i = 0; i < n; i++) sum = (unsigned char)(sum ^ bytes[i]);
    sink = sum;
}

static void read_safetensors(const char *path) {
    aa_safetensors st;
    aa_err err = {0};
    if (aa_safetensors_open(&st, path, &err)) return;
    for (size_t i = 0; i < st.n_tensors; i++) {
        const aa_st_tensor *t = &st.tensors[i];
        aa_assert(aa_safetensors_find(&st, t->name) == t);
        aa_assert(t->size_bytes == t->n_elements * aa_dtype_size(t->dtype));
        touch(aa_safetensors_data(&st, t), t->size_bytes);
    }
    (void)aa_safetensors_metadata(&st, "format");
    aa_safetensors_close(&st);
}

static void read_config(const char *path) {
    aa_config c;
    aa_err err = {0};
    aa_text text = {0};
    if (aa_hf_config_parse(&c, path, &err)) return;
    (void)aa_config_params(&c);
    (void)!aa_hf_config_json(&c, NULL, AA_TYPE_F32, &text, &err);
    aa_text_release(&text);
}

static void read_tokenizer(const char *path) {
    static const char text[] =
        "Hello  world's 123 \xF0\x9F\x98\x80 \xFF\xC3 <|endoftext|>\r\n\n e\xCC\x81 ababab";
    aa_tokenizer *t;
    aa_err err = {0};
    aa_ids ids = {0};
    aa_text out = {0};
    if (aa_tokenizer_load(&t, path, &err)) return;
    if (!aa_encode(t, text, sizeof text - 1, AA_ENCODE_SPECIALS | AA_ENCODE_BOS, &ids, &err)) {
        for (size_t i = 0; i < ids.len; i++)
            aa_assert(ids.data[i] >= 0 && (size_t)ids.data[i] < aa_tokenizer_vocab(t));
        aa_assert(!aa_decode(t, ids.data, ids.len, true, &out, &err));
    }
    aa_ids_release(&ids);
    aa_text_release(&out);
    aa_tokenizer_free(t);
}

/* The directory of a file; the caller frees it. */
static char *directory_of(const char *path) {
    char *dir = aa_heap_strdup(path);
    aa_assert(dir != NULL);
    *strrchr(dir, '/') = 0;
    return dir;
}

static void read_run(const char *path) {
    aa_position at;
    aa_err err = {0};
    char *dir = directory_of(path);
    (void)!aa_checkpoint_read(dir, NULL, NULL, &at, &err);
    aa_heap_free(dir);
}

/* Every row, as the file has it and as floats, and the tokenizer. What is read into is outside of
 * the limit: it is the caller's, who knows the size of a row before it asks. */
static void use_row(aa_source *s, const aa_tensor *row) {
    aa_stored view;
    aa_err err = {0};
    if (s->find(s, row, &view, &err)) return;
    touch(view.data, view.rows * aa_type_bytes(view.type, view.cols));
    size_t n = aa_tensor_size(row);
    float *floats = n <= MOST_FLOATS ? malloc(n * sizeof *floats) : NULL;
    if (floats && !aa_source_read(s, row, floats, &err)) touch(floats, n * sizeof *floats);
    free(floats);
}

/* What was made of a key is JSON. */
static void use_key(void *ctx, const char *key, const char *json) {
    json_t *wrapped = NULL;
    char *text = aa_heap_printf("[%s]", json);
    aa_err err = {0};

    (void)ctx, (void)key;
    aa_assert(text && !aa_json_parse_nul(&wrapped, text, strlen(text), "a value", &err));
    json_decref(wrapped);
    aa_heap_free(text);
}

static void read_model(const char *path) {
    aa_source *s;
    aa_tokenizer *t;
    aa_err err = {0};
    if (aa_source_open(&s, path, &err)) return;
    size_t n = aa_model_rows(&s->config, NULL, 0);
    aa_tensor *rows = n <= MOST_ROWS ? calloc(n, sizeof *rows) : NULL;
    if (rows) aa_model_rows(&s->config, rows, n);
    for (size_t i = 0; rows && i < n; i++) use_row(s, &rows[i]);
    if (s->check_all_read) (void)!s->check_all_read(s, &err);
    err = (aa_err){0};
    if (s->metadata) (void)!s->metadata(s, use_key, NULL, &err);
    err = (aa_err){0};
    if (!aa_source_tokenizer(s, &t, &err)) aa_tokenizer_free(t);
    free(rows);
    aa_source_close(s);
}

static void use_tokens(const char *path, uint64_t vocab, int32_t eos) {
    aa_tokens t;
    aa_err err = {0};
    uint64_t total = 0;
    if (aa_tokens_open(&t, path, vocab, eos, eos < 0, &err)) return;
    for (uint64_t d = 0; d < t.n_documents; d++) {
        aa_assert(t.part[d] < AA_PART_COUNT && t.document[d] < t.document[d + 1]);
        total += t.document[d + 1] - t.document[d];
    }
    aa_assert(total == t.n_tokens);
    for (uint64_t i = 0; i < t.n_tokens; i++)
        aa_assert(aa_tokens_at(&t, i) >= 0 && (uint64_t)aa_tokens_at(&t, i) < t.vocab &&
                  (t.unlearned || aa_tokens_learned(&t, i)));
    aa_tokens_close(&t);
}

static void read_tokens(const char *path) {
    aa_assert(aa_tokens_is_file(path));
    (void)aa_tokenizer_is_llama2c(path);
    use_tokens(path, 0, -1);
    use_tokens(path, 300, 0);
}

static void put_beside(const char *path, const char *name, const void *data, size_t n) {
    char *dir = directory_of(path), *file = aa_path_join(dir, name);
    FILE *f = file && access(file, F_OK) ? fopen(file, "wb") : NULL;
    if (f) aa_assert(fwrite(data, 1, n, f) == n && !fclose(f));
    aa_heap_free(file);
    aa_heap_free(dir);
}

/* A directory whose weights are in shards, of which one is there. */
static void read_index(const char *path) {
    static const char config[] =
        "{\"model_type\":\"llama\",\"hidden_size\":4,\"num_hidden_layers\":1,"
        "\"num_attention_heads\":1,\"intermediate_size\":4,\"vocab_size\":3,"
        "\"max_position_embeddings\":8,\"rms_norm_eps\":1e-5,\"tie_word_embeddings\":true}";
    static const char shard[] = "\107\0\0\0\0\0\0\0"
                                "{\"model.norm.weight\":"
                                "{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}"
                                "0123456789abcdef";
    char *dir = directory_of(path);
    put_beside(path, "config.json", config, sizeof config - 1);
    put_beside(path, "a.safetensors", shard, sizeof shard - 1);
    read_model(dir);
    aa_heap_free(dir);
}

/* ---- adapters -------------------------------------------------------------------------------- */

static void use_part(const aa_stored *m) {
    if (!m->data) return;
    touch(m->data, m->rows * aa_type_bytes(m->type, m->cols));
    float *floats = m->rows * m->cols <= MOST_FLOATS ? malloc(m->rows * m->cols * sizeof *floats)
                                                     : NULL;
    if (floats) {
        aa_stored_read(m, 0, m->rows, floats);
        touch(floats, m->rows * m->cols * sizeof *floats);
    }
    free(floats);
}

static void read_adapter(const char *path) {
    const aa_config base = {.arch = AA_ARCH_LLAMA, .dim = 4, .layers = 1, .heads = 2, .kv_heads = 1,
                            .head_dim = 2, .ffn = 4, .vocab = 3, .seq = 8, .rope_theta = 1e4,
                            .norm_eps = 1e-5, .tied = true, .residual_scale = 1};
    aa_adapter *a;
    aa_err err = {0};
    if (!aa_adapter_is(path) || aa_adapter_open(&a, path, &err)) return;
    if (!aa_adapter_bind(a, &base, &err))
        for (size_t i = 0; i < a->n_rows; i++) {
            const aa_adapter_row *row = &a->rows[i];
            aa_assert(aa_adapter_find(a, row->name) == row);
            use_part(&row->whole), use_part(&row->A), use_part(&row->B), use_part(&row->magnitude);
        }
    aa_adapter_close(a);
}

#define FUZZ_MODULE "base_model.model.model.layers.0.self_attn.q_proj"
static void read_peft(const char *path) {
    static const char weights[] =
        "\363\0\0\0\0\0\0\0"
        "{\"" FUZZ_MODULE ".lora_A.weight\":"
        "{\"dtype\":\"F32\",\"shape\":[1,4],\"data_offsets\":[0,16]},"
        "\"" FUZZ_MODULE ".lora_B.weight\":"
        "{\"dtype\":\"F32\",\"shape\":[4,1],\"data_offsets\":[16,32]}}       "
        "0123456789abcdef0123456789abcdef";
    char *dir = directory_of(path);
    put_beside(path, "adapter_model.safetensors", weights, sizeof weights - 1);
    read_adapter(dir);
    aa_heap_free(dir);
}

static void read_peft_weights(const char *path) {
    static const char config[] =
        "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":3,\"target_modules\":[\"q_proj\","
        "\"lm_head\"],\"modules_to_save\":[\"norm\"],\"use_dora\":true,"
        "\"rank_pattern\":{\"lm_(head|tail)\":1}}";
    char *dir = directory_of(path);
    put_beside(path, "adapter_config.json", config, sizeof config - 1);
    read_adapter(dir);
    aa_heap_free(dir);
}

/* ---- ledgers --------------------------------------------------------------------------------- */

/* Checksums find damage, not forgers: the file is read once more with all of them made to fit. */
static void seal_ledger(unsigned char *p, size_t n) {
    uint32_t size, index = 0;
    uint64_t sum, salt;
    if (n < 96) return;
    memcpy(&size, p + 12, sizeof size);
    if (size > n || size < 96) return;
    sum = aa_digest_bytes(p, size - 8).lo;
    memcpy(p + size - 8, &sum, sizeof sum);
    salt = aa_digest_bytes(p, size).lo;
    for (size_t at = size; n - at >= 32; at += 32 + size, index++) {
        struct { uint64_t salt; unsigned char frame[32]; aa_digest payload; } all = {.salt = salt};
        memcpy(&size, p + at + 12, sizeof size);
        if (size > n - at - 32) return;
        memcpy(p + at + 8, &index, sizeof index);
        memcpy(all.frame, p + at, 24);
        all.payload = aa_digest_bytes(p + at + 32, size);
        sum = aa_digest_bytes(&all, sizeof all).lo;
        memcpy(p + at + 24, &sum, sizeof sum);
    }
}

/* Of the little net, to be replayed where its settings are of a modest size: what a run takes is
 * for its user to choose. The net itself is made outside of the limit. */
static void use_ledger(const char *path) {
    static zonet net;
    aa_ledger_reader r;
    aa_ledger_summary s;
    aa_zo *z;
    aa_err err = {0};
    if (!net.cpu) {
        aa_heap_limit(0);
        zonet_open(&net, 1, AA_ISA_AUTO, true);
    }
    (void)!aa_ledger_verify(path, &s, &err);
    err = (aa_err){0};
    if (aa_ledger_open(&r, path, &err)) return;
    const aa_zo_config c = r.header.config;
    aa_ledger_reader_close(&r);
    if (c.streams * c.groups > 256 || c.estimate > 64) return;
    if (aa_zo_open(&z, &c, &net.objective, net.cpu, &err)) return;
    zonet_reset(&net);
    (void)!aa_zo_replay(z, path, NULL, NULL, &err);
    aa_zo_close(z);
}

static void read_ledger(const char *path) {
    aa_sys_map map;
    aa_err err = {0};
    use_ledger(path);
    aa_assert(!aa_map_open(&map, path, &err));
    unsigned char *copy = map.size_bytes ? aa_heap_alloc(map.size_bytes, 1) : NULL;
    const size_t n = map.size_bytes;
    if (copy) memcpy(copy, map.data, n);
    aa_sys_map_close(&map);
    if (!copy) return;
    seal_ledger(copy, n);
    (void)remove(path);
    FILE *f = fopen(path, "wb");
    aa_assert(f && fwrite(copy, 1, n, f) == n && !fclose(f));
    aa_heap_free(copy);
    use_ledger(path);
}

/* ---- programs of the Neural Engine ----------------------------------------------------------- */

static void look_at(const aa_mil_program *p, size_t nth, aa_ane_profile profile) {
    aa_ane_findings all = {0};
    aa_ane_work work;
    aa_err err = {0};
    size_t n;
    const aa_ane_chip *chips = aa_ane_chips(&n), *chip = &chips[nth < n ? nth : n - 1];
    aa_assert(!aa_ane_check(&all, p, chip, profile, NULL, &err));
    for (int i = 0; i < p->n_funcs; i++) {
        aa_ane_work_of(&work, p->funcs[i], chip);
        aa_assert(work.flop >= 0 && work.port_bytes >= 0);
    }
    aa_ane_findings_release(&all);
}

/* What is read prints to a text that is read to the same text. */
static void read_mil(const char *path) {
    aa_mil_program p, again;
    aa_text first = {0}, second = {0};
    aa_sys_map map;
    aa_err err = {0};
    aa_assert(!aa_map_open(&map, path, &err));
    aa_status st = aa_mil_parse(&p, (const char *)map.data, map.size_bytes, path, &err);
    aa_sys_map_close(&map);
    if (st) return;
    aa_heap_limit(0);                    /* a text in full may be longer than what was read */
    aa_mil_print(&p, &first);
    aa_assert(!aa_mil_parse(&again, first.data, first.len, path, &err));
    aa_mil_print(&again, &second);
    aa_assert(strcmp(first.data, second.data) == 0);
    for (int i = 0; i < p.n_funcs; i++) {
        int *last = calloc((size_t)p.funcs[i]->n_vars + 1, sizeof *last);
        if (last) (void)aa_mil_liveness(p.funcs[i], last);
        free(last);
    }
    look_at(&p, 0, AA_ANE_LEGACY);
    look_at(&p, SIZE_MAX, AA_ANE_STRICT);
    aa_text_release(&first);
    aa_text_release(&second);
    aa_mil_release(&p);
    aa_mil_release(&again);
}

static void read_blob(const char *path) {
    aa_sys_map map;
    aa_err err = {0};
    aa_assert(!aa_map_open(&map, path, &err));
    for (uint64_t at = 0; at < map.size_bytes; at += AA_BLOB_ALIGN) {
        aa_blob_entry e;
        aa_err why = {0};
        if (!aa_blob_read(&e, map.data, map.size_bytes, at, path, &why))
            touch(e.data, e.size_bytes);
    }
    aa_sys_map_close(&map);
}

const fuzz_target fuzz_targets[] = {
    {"safetensors", "model.safetensors", read_safetensors},
    {"gguf", "model.gguf", read_model},
    {"blzt", "model.bin", read_model},
    {"llama2c", "model.bin", read_model},
    {"tokens", "tokens.bin", read_tokens},
    {"config", "config.json", read_config},
    {"tokenizer", "tokenizer.json", read_tokenizer},
    {"run", "run.json", read_run},
    {"index", "model.safetensors.index.json", read_index},
    {"peft", "adapter_config.json", read_peft},
    {"peft_weights", "adapter_model.safetensors", read_peft_weights},
    {"adapter", "adapter.gguf", read_adapter},       /* or a sidecar: the contents tell */
    {"ledger", "run.ledger", read_ledger},
    {"mil", "model.mil", read_mil},
    {"blob", "weight.bin", read_blob},
    {0}};

const fuzz_target *fuzz_find(const char *name) {
    for (const fuzz_target *t = fuzz_targets; t->name; t++)
        if (!strcmp(t->name, name)) return t;
    return NULL;
}

void fuzz_run(const fuzz_target *t, const char *dir, const void *data, size_t n) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, t->file);
    (void)remove(path);                  /* file systems flush a file that is cut and written */
    FILE *f = fopen(path, "wb");
    aa_assert(f && fwrite(data, 1, n, f) == n && !fclose(f));
    aa_heap_limit(4 * n + FIXED_BYTES);
    t->read(path);
    aa_heap_limit(0);
}
