/* A model ready to run: its weights, its tokenizer, and the memory of one sequence, which is laid
 * out once and used again by every generation.
 *
 * Weights stay where they are: mapped, in the type and order of their file. Only a model with a
 * compact vocabulary or a low-rank head, which no file holds row by row, is read into memory. */
#include "convert/adapter.h"
#include "infer/infer.h"

#include <stdio.h>
#include <string.h>
#include "base/memory.h"
#include "data/batch.h"

enum {
    PREFILL_CHUNK = 256
}; /* rows of one pass over a prompt: enough to be bound by
      arithmetic, small enough to stay in the caches */

struct aa_session_owned {
    aa_arena arena; /* of the model */
    aa_model model;
    aa_source *source; /* of the weights that are not in memory, or NULL */
    aa_tokenizer *tokenizer;
    int32_t *active_ids, *compact_map;
    char *chat_template;
    aa_lora lora; aa_lora_site *sites;
};

static aa_status lay_out(aa_session *s, size_t capacity, bool half, aa_err *err) {
    const aa_config *c = &s->model->config;
    size_t chunk = capacity < PREFILL_CHUNK ? capacity : PREFILL_CHUNK, V = (size_t)c->vocab;
    AA_TRY(aa_kv_init(&s->kv, s->model, capacity, half, &s->arena, err));
    AA_TRY(
        aa_activations_new(&s->activations, s->model, AA_PASS_EVAL, 1, chunk, 1, &s->arena, err));
    s->logits = aa_arena_new(&s->arena, aa_real, V);
    s->history = aa_arena_new(&s->arena, int32_t, capacity + 1);
    s->scratch = aa_arena_alloc(&s->arena, 1, aa_sample_scratch_bytes(V));
    s->chunk = chunk;
    return aa_arena_status(&s->arena, err);
}

static aa_status open_over(aa_session *out, aa_model *m, const aa_tokenizer *t, aa_cpu *cpu,
                           const aa_session_options *o, aa_err *err) {
    aa_session s = {.model = m, .tokenizer = t, .cpu = cpu};
    size_t capacity = o->capacity ? o->capacity : (size_t)m->config.seq;
    if (capacity > m->n_pos)
        return aa_fail(err, AA_EUSAGE,
                       "a context of %zu tokens was asked for, but the model was laid out "
                       "for positions up to %zu",
                       capacity, m->n_pos);
    aa_backend_cpu(&s.backend, cpu);
    aa_arena_init(&s.arena, "session");
    s.arena.sparse = true; /* most positions of a long context are never used */
    aa_status st = lay_out(&s, capacity, o->half_kv, err);
    if (st) aa_session_close(&s);
    else *out = s;
    return st;
}

aa_status aa_session_init(aa_session *out, aa_model *m, const aa_tokenizer *t, aa_cpu *cpu,
                          size_t capacity, const int32_t *active_ids, const int32_t *compact_map,
                          aa_err *err) {
    AA_TRY(open_over(out, m, t, cpu, &(aa_session_options){.capacity = capacity}, err));
    out->active_ids = active_ids;
    out->compact_map = compact_map;
    return AA_OK;
}

static size_t n_pos_of(const aa_config *c, size_t capacity) {
    size_t seq = (size_t)c->seq;
    return capacity > seq ? capacity : seq;
}

static unsigned parts_of(const aa_source *s, bool adapted) {
    bool whole = !s->active_ids && !s->config.head_rank;
    if (whole) return AA_MODEL_STORED;
    return AA_MODEL_PARAMS | (adapted ? 0 : AA_MODEL_PACKED);
}

/* Bytes of a model and a session of that capacity, by the code that lays them out. */
static aa_status measure(const aa_source *src, size_t capacity, bool half, aa_cpu *cpu,
                         uint64_t *out, aa_err *err) {
    aa_arena arena;
    aa_model m;
    aa_session s = {.model = &m};
    aa_arena_init_measure(&arena, "model");
    aa_arena_init_measure(&s.arena, "session");
    AA_TRY(aa_model_init(&m, &src->config, parts_of(src, false), n_pos_of(&src->config, capacity),
                         cpu, &arena, err));
    AA_TRY(lay_out(&s, capacity, half, err));
    *out = (uint64_t)arena.used_bytes + s.arena.used_bytes;
    return AA_OK;
}

/* A context that does not fit is refused, with the largest that does. */
static aa_status check_size(const aa_source *src, const aa_session_options *o, aa_cpu *cpu,
                            aa_err *err) {
    uint64_t need, bytes;
    char what[64], advice[64];
    size_t capacity = o->capacity ? o->capacity : (size_t)src->config.seq;
    AA_TRY(measure(src, capacity, o->half_kv, cpu, &need, err));
    if (aa_memory_check("", need, "", NULL) == AA_OK) return AA_OK;
    AA_TRY(measure(src, 1, o->half_kv, cpu, &bytes, err));
    AA_TRY(aa_memory_check("this model", bytes, "use a smaller one", err));
    size_t fits = 1, too_many = capacity;
    while (too_many - fits > 1) {
        size_t middle = fits + (too_many - fits) / 2;
        AA_TRY(measure(src, middle, o->half_kv, cpu, &bytes, err));
        if (aa_memory_check("", bytes, "", NULL) == AA_OK) fits = middle;
        else too_many = middle;
    }
    snprintf(what, sizeof what, "a context of %zu positions", capacity);
    snprintf(advice, sizeof advice, "ask for a context of at most %zu", fits);
    return aa_memory_check(what, need, advice, err);
}

/* A model, or an adapter whose base is opened with it. */
static aa_status open_sources(struct aa_session_owned *o, aa_adapter **adapter, const char *path,
                              const char *beside, aa_err *err) {
    bool alone = !beside && aa_adapter_is(path);
    if (beside || alone) AA_TRY(aa_adapter_open(adapter, alone ? path : beside, err));
    return alone ? aa_adapter_open_base(*adapter, &o->source, err)
                 : aa_source_open(&o->source, path, err);
}

static aa_status init_adapted(struct aa_session_owned *o, aa_adapter *a, size_t n_pos, aa_cpu *cpu,
                              aa_err *err) {
    aa_source *src = o->source;
    AA_TRY(aa_adapter_bind(a, &src->config, err));
    AA_TRY(aa_adapter_lora(a, &src->config, &o->lora, &o->sites, err));
    AA_TRY(aa_model_init_lora(&o->model, &src->config, &o->lora, parts_of(src, true), n_pos, cpu,
                              &o->arena, err));
    AA_TRY(aa_source_load(src, &o->model, err));
    return aa_adapter_load(a, &o->model, err);
}

static aa_status load(struct aa_session_owned *o, aa_adapter *adapter,
                      const aa_session_options *options, aa_cpu *cpu, aa_err *err) {
    aa_source *src = o->source;
    size_t n_pos = n_pos_of(&src->config, options->capacity);
    AA_TRY(check_size(src, options, cpu, err));
    AA_TRY(aa_source_tokenizer(src, &o->tokenizer, err));
    if (adapter) AA_TRY(init_adapted(o, adapter, n_pos, cpu, err));
    else {
        AA_TRY(aa_model_init(&o->model, &src->config, parts_of(src, false), n_pos, cpu, &o->arena,
                             err));
        AA_TRY(aa_source_load(src, &o->model, err));
    }
    o->chat_template = src->chat_template;
    src->chat_template = NULL;
    if (o->model.stored) return AA_OK;
    if (src->active_ids) {
        AA_TRY(aa_compact_map(src->active_ids, src->n_active, src->full_vocab, &o->compact_map,
                              err));
        o->active_ids = src->active_ids;
        src->active_ids = NULL;
    }
    aa_source_close(src);
    o->source = NULL;
    return AA_OK;
}

static void owned_free(struct aa_session_owned *o) {
    if (!o) return;
    aa_tokenizer_free(o->tokenizer);
    aa_arena_release(&o->arena);
    aa_source_close(o->source);
    aa_heap_free(o->active_ids);
    aa_heap_free(o->compact_map);
    aa_heap_free(o->chat_template);
    aa_heap_free(o->sites);
    aa_heap_free(o);
}

aa_status aa_session_open_with(aa_session *out, const char *path, aa_cpu *cpu,
                               const aa_session_options *options, aa_err *err) {
    struct aa_session_owned *o = aa_heap_alloc(1, sizeof *o);
    aa_session s;
    if (!o) return aa_fail_memory(err, "a session", sizeof *o);
    aa_arena_init(&o->arena, "model");
    aa_adapter *adapter = NULL;
    aa_status st = open_sources(o, &adapter, path, options->adapter, err);
    if (!st) st = load(o, adapter, options, cpu, err);
    aa_adapter_close(adapter);
    if (!st) st = open_over(&s, &o->model, o->tokenizer, cpu, options, err);
    if (st) {
        owned_free(o);
        return st;
    }
    s.owned = o;
    s.active_ids = o->active_ids;
    s.compact_map = o->compact_map;
    s.chat_template = o->chat_template;
    *out = s;
    return AA_OK;
}

aa_status aa_session_open(aa_session *out, const char *path, aa_cpu *cpu, size_t capacity,
                          aa_err *err) {
    return aa_session_open_with(out, path, cpu, &(aa_session_options){.capacity = capacity}, err);
}

void aa_session_close(aa_session *s) {
    if (s->backend.release) s->backend.release(s->backend.self);
    aa_arena_release(&s->arena);
    owned_free(s->owned);
    *s = (aa_session){0};
}
