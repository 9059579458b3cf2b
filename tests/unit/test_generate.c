/* Generation, on two models: one of random weights, and one that recites. The reciting model's
 * blocks add nothing, so that the next token depends on the last one alone, and its head is an
 * associative memory of "after this byte comes that byte": it says what a test needs, character by
 * character, byte by byte. */
#include "base/memory.h"
#include "infer/infer.h"
#include "support/check.h"

#include <math.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *program; /* this executable, to run again with failing memory */

enum { EOS = 256, V = 257, C = 64 };

/* Every byte once, so that each has one successor. 1, 2, 3 and 4 bytes, and 1 again. */
#define VERSE "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z"

typedef struct stage {
    aa_arena arena;
    aa_cpu *cpu;
    aa_model model;
    aa_tokenizer *tokenizer;
    aa_session session;
    int32_t active[V], map[V]; /* compact vocabulary */
} stage;

static void lay_out_model(stage *s, int64_t vocab, size_t n_pos) {
    aa_err err = {0};
    aa_config c = {.arch = AA_ARCH_LLAMA,
                   .dim = C,
                   .layers = 2,
                   .heads = 4,
                   .kv_heads = 2,
                   .ffn = 96,
                   .vocab = vocab,
                   .seq = 64,
                   .rope_theta = 10000,
                   .norm_eps = 1e-5,
                   .residual_scale = 1};
    check_ok(aa_config_resolve(&c, &err));
    check_ok(aa_cpu_new(&s->cpu, 1, AA_ISA_AUTO, &err));
    aa_arena_init(&s->arena, "test");
    check_ok(aa_model_init(&s->model, &c, AA_MODEL_PARAMS | AA_MODEL_PACKED, n_pos, s->cpu,
                           &s->arena, &err));
    check_ok(aa_tokenizer_new_bytes(&s->tokenizer, &err));
}

static void open_session(stage *s, size_t capacity, bool compact) {
    aa_err err = {0};
    check_ok(aa_session_init(&s->session, &s->model, s->tokenizer, s->cpu, capacity,
                             compact ? s->active : NULL, compact ? s->map : NULL, &err));
}

static void open_random(stage *s, size_t n_pos) {
    memset(s, 0, sizeof *s);
    lay_out_model(s, V, n_pos);
    aa_model_init_weights(&s->model, 5, AA_INIT_SCALED);
    for (size_t i = 0; i < V * C; i++) s->model.head.weight->data[i] *= 40; /* decided opinions */
    aa_model_changed(&s->model);
    open_session(s, n_pos, false);
}

/* After `from` comes `to` (ids of the model). */
static void teach(stage *s, int32_t from, int32_t to) {
    const aa_real *e = s->model.embedding->data + (size_t)from * C;
    aa_real *h = s->model.head.weight->data + (size_t)to * C;
    double length = 0;
    for (int i = 0; i < C; i++) length += (double)e[i] * (double)e[i];
    for (int i = 0; i < C; i++) h[i] += (aa_real)(20 * (double)e[i] / sqrt(length));
}

/* Recites VERSE for ever, or until `ending` when that is given. compact: only the ids it needs. */
static void open_reciting(stage *s, size_t capacity, bool ends, bool compact) {
    memset(s, 0, sizeof *s);
    size_t n = sizeof VERSE - 1, n_active = 0;
    for (int32_t id = 0; id < V; id++) {
        bool used = id == EOS || memchr(VERSE, id, n);
        s->map[id] = used ? (int32_t)n_active : -1;
        if (used) s->active[n_active++] = id;
    }
    lay_out_model(s, compact ? (int64_t)n_active : V, capacity);
    aa_model_init_weights(&s->model, 5, AA_INIT_ZERO_OUT);
    aa_tensor *head = s->model.head.weight;
    memset(head->data, 0, aa_tensor_size(head) * sizeof *head->data);
    for (size_t i = 0; i < n; i++) {
        int32_t from = (unsigned char)VERSE[i], to = (unsigned char)VERSE[(i + 1) % n];
        if (i + 1 == n && ends) to = EOS;
        teach(s, compact ? s->map[from] : from, compact ? s->map[to] : to);
    }
    if (ends) teach(s, compact ? s->map[EOS] : EOS, compact ? s->map['a'] : 'a');
    aa_model_changed(&s->model);
    open_session(s, capacity, compact);
}

static void close_stage(stage *s) {
    aa_session_close(&s->session);
    aa_tokenizer_free(s->tokenizer);
    aa_arena_release(&s->arena);
    aa_cpu_free(s->cpu);
}

/* What on_text saw: the pieces, each followed by a bar. */
typedef struct heard {
    aa_text pieces, joined;
    int stop_after;
} heard;

static bool hear(void *ctx, const char *text, size_t n) {
    heard *h = ctx;
    assert_true(n > 0);
    aa_text_add_bytes(&h->pieces, text, n);
    aa_text_add(&h->pieces, "|");
    aa_text_add_bytes(&h->joined, text, n);
    return h->stop_after == 0 || --h->stop_after > 0;
}

static aa_generation greedy(size_t n, heard *h) {
    aa_generation g = {.max_tokens = n, .on_text = h ? hear : NULL, .ctx = h};
    aa_sampling_defaults(&g.sampling);
    g.sampling.temperature = 0;
    return g;
}

static void check_said(stage *s, const aa_generation *g, const char *prompt, const char *text,
                       aa_stop_reason reason, const char *pieces) {
    aa_err err = {0};
    aa_generated out = {0};
    heard h = {0};
    aa_generation with = *g;
    with.on_text = hear;
    with.ctx = &h;
    aa_text_add(&h.pieces, "");
    aa_text_add(&h.joined, "");
    check_ok(aa_generate(&s->session, prompt, &with, &out, &err));
    assert_string_equal(out.text.data ? out.text.data : "", text);
    assert_int_equal(out.reason, reason);
    assert_string_equal(h.joined.data, text);
    if (pieces) assert_string_equal(h.pieces.data, pieces);
    aa_text_release(&h.pieces);
    aa_text_release(&h.joined);
    aa_generated_release(&out);
}

static void test_streaming_sends_whole_characters(void **state) {
    (void)state;
    stage s;
    open_reciting(&s, 64, false, false);
    aa_generation g = greedy(11, NULL);
    check_said(&s, &g, "a", "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80za", AA_STOP_LENGTH,
               "\xC3\xA9|\xE2\x82\xAC|\xF0\x9F\x98\x80|z|a|");
    g.max_tokens = 8; /* ends inside the fourth character: what there is of it comes last */
    check_said(&s, &g, "a", "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98", AA_STOP_LENGTH,
               "\xC3\xA9|\xE2\x82\xAC|\xF0\x9F\x98|");
    g.max_tokens = 0;
    check_said(&s, &g, "a", "", AA_STOP_LENGTH, "");
    close_stage(&s);
}

static void test_stop_texts(void **state) {
    (void)state;
    stage s;
    open_reciting(&s, 64, false, false);
    const char *across[] = {"\xF0\x9F\x98\x80z"}, *two[] = {"never", "\xAC\xF0", "a\xC3"};
    const char *near[] = {"zb", "\xE2\x82\xACz", ""}, *first[] = {"\xC3"};
    aa_generation g = greedy(40, NULL);
    g.stop = across;
    g.n_stop = 1;
    check_said(&s, &g, "a", "\xC3\xA9\xE2\x82\xAC", AA_STOP_TEXT, "\xC3\xA9|\xE2\x82\xAC|");
    g.stop = two;
    g.n_stop = 3; /* the second begins inside a character, whose first bytes are text */
    check_said(&s, &g, "a", "\xC3\xA9\xE2\x82", AA_STOP_TEXT, "\xC3\xA9|\xE2\x82|");
    g.stop = first;
    g.n_stop = 1;
    check_said(&s, &g, "a", "", AA_STOP_TEXT, "");
    const char *all[] = {"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"}; /* everything said so far */
    g.stop = all;
    check_said(&s, &g, "a", "", AA_STOP_TEXT, "");
    g.stop = near; /* held back while they may come, then sent; an empty one never stops */
    g.n_stop = 3;
    g.max_tokens = 11;
    check_said(&s, &g, "a", "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80za", AA_STOP_LENGTH,
               "\xC3\xA9|\xE2\x82\xAC|\xF0\x9F\x98\x80|za|");
    g.max_tokens = 10; /* ends while "z" is held back */
    check_said(&s, &g, "a", "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z", AA_STOP_LENGTH,
               "\xC3\xA9|\xE2\x82\xAC|\xF0\x9F\x98\x80|z|");
    close_stage(&s);
}

static void test_end_of_text(void **state) {
    (void)state;
    aa_err err = {0};
    aa_generated out;
    stage s;
    open_reciting(&s, 64, true, false);
    aa_generation g = greedy(40, NULL);
    check_said(&s, &g, "z", "", AA_STOP_EOS, "");
    check_said(&s, &g, "a", "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z", AA_STOP_EOS, NULL);
    check_ok(aa_generate(&s.session, "", &g, &out, &err));
    assert_int_equal(out.prompt_ids.len, 1);
    assert_int_equal(out.prompt_ids.data[0], EOS);
    assert_int_equal(out.ids.len, sizeof VERSE - 1); /* the eos is not among them */
    assert_string_equal(out.text.data, VERSE);
    aa_generated_release(&out);
    g.ignore_eos = true;
    g.max_tokens = 13;
    check_ok(aa_generate(&s.session, "a", &g, &out, &err));
    assert_int_equal(out.reason, AA_STOP_LENGTH);
    assert_int_equal(out.ids.data[10], EOS);
    assert_string_equal(out.text.data, "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80za\xC3");
    aa_generated_release(&out);
    close_stage(&s);
}

static void test_the_caller_can_stop(void **state) {
    (void)state;
    aa_err err = {0};
    stage s;
    open_reciting(&s, 64, false, false);
    heard h = {.stop_after = 2};
    aa_generation g = greedy(40, &h);
    aa_generated out;
    check_ok(aa_generate(&s.session, "a", &g, &out, &err));
    assert_int_equal(out.reason, AA_STOP_CALLER);
    assert_string_equal(h.joined.data, "\xC3\xA9\xE2\x82\xAC");
    assert_int_equal(out.ids.len, 5);
    aa_generated_release(&out);
    aa_text_release(&h.pieces);
    aa_text_release(&h.joined);
    close_stage(&s);
}

static void test_a_full_context_ends(void **state) {
    (void)state;
    aa_err err = {0};
    aa_generated out = {.prefill_s = -7};
    stage s;
    open_reciting(&s, 16, false, false);
    aa_generation g = greedy(100, NULL);
    check_ok(aa_generate(&s.session, "zzza", &g, &out, &err));
    assert_int_equal(out.reason, AA_STOP_CONTEXT);
    assert_int_equal(out.ids.len, 16 - 4 + 1);
    aa_generated_release(&out);
    check_ok(aa_generate(&s.session, "aaaaaaaaaaaaaaaa", &g, &out, &err));
    assert_int_equal(out.ids.len, 1);
    assert_int_equal(out.reason, AA_STOP_CONTEXT);
    aa_generated_release(&out);
    out.prefill_s = -7;
    assert_int_equal(aa_generate(&s.session, "aaaaaaaaaaaaaaaaa", &g, &out, &err), AA_EUSAGE);
    assert_non_null(strstr(err.message, "17"));
    assert_non_null(strstr(err.message, "16"));
    assert_true(out.prefill_s == -7);
    aa_session other;
    err = (aa_err){0};
    assert_int_equal(aa_session_init(&other, &s.model, s.tokenizer, s.cpu, 17, NULL, NULL, &err),
                     AA_EUSAGE);
    close_stage(&s);
}

/* What is recited depends on the token before alone: a shifted context recites as a long
 * one does. */
static void test_a_full_context_shifts(void **state) {
    (void)state;
    aa_err err = {0};
    aa_generated out = {0}, whole = {0};
    stage s, wide;
    open_reciting(&s, 16, false, false);
    open_reciting(&wide, 128, false, false);
    aa_generation g = greedy(100, NULL);
    check_ok(aa_generate(&wide.session, "zzza", &g, &whole, &err));
    g.shift = true;
    check_ok(aa_generate(&s.session, "zzza", &g, &out, &err));
    assert_int_equal(out.reason, AA_STOP_LENGTH);
    assert_int_equal(out.ids.len, 100);
    assert_int_equal(whole.ids.len, 100);
    check_same_bits("ids", out.ids.data, whole.ids.data, 100 * sizeof *out.ids.data);
    aa_generated_release(&out);
    aa_generated_release(&whole);
    close_stage(&wide);
    close_stage(&s);
}

static void test_compact_vocabulary(void **state) {
    (void)state;
    aa_err err = {0};
    stage s;
    open_reciting(&s, 64, true, true);
    aa_generation g = greedy(40, NULL);
    aa_generated out;
    check_ok(aa_generate(&s.session, "z<|endoftext|>a", &g, &out, &err));
    assert_int_equal(out.reason, AA_STOP_EOS);
    assert_int_equal(out.prompt_ids.len, 3);
    assert_int_equal(out.prompt_ids.data[1], EOS);
    assert_string_equal(out.text.data, "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z");
    assert_int_equal(out.ids.data[0], 0xC3);
    aa_generated_release(&out);
    assert_int_equal(aa_generate(&s.session, "aQ", &g, &out, &err), AA_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "'Q'"));
    close_stage(&s);
}

static void test_a_seed_is_a_text(void **state) {
    (void)state;
    aa_err err = {0};
    stage s;
    open_random(&s, 64);
    heard h = {0};
    aa_generation g = greedy(40, &h);
    g.sampling.temperature = 1;
    g.sampling.top_k = 0;
    g.ignore_eos = true;
    g.sampling.seed = 11;
    aa_generated a, b, c;
    check_ok(aa_generate(&s.session, "abc", &g, &a, &err));
    assert_int_equal(h.joined.len, a.text.len);
    assert_memory_equal(h.joined.data, a.text.data, a.text.len);
    g.on_text = NULL;
    check_ok(aa_generate(&s.session, "abc", &g, &b, &err));
    g.sampling.seed = 12;
    check_ok(aa_generate(&s.session, "abc", &g, &c, &err));
    assert_int_equal(a.ids.len, 40);
    assert_memory_equal(a.ids.data, b.ids.data, 40 * sizeof *a.ids.data);
    assert_true(memcmp(a.ids.data, c.ids.data, 40 * sizeof *a.ids.data) != 0);
    aa_generated_release(&a);
    aa_generated_release(&b);
    aa_generated_release(&c);
    aa_text_release(&h.pieces);
    aa_text_release(&h.joined);
    close_stage(&s);
}

/* The likeliest next token after ids, all read in one pass; *gap: how far ahead of the second. */
static int32_t recompute(stage *s, const int32_t *ids, size_t n, double *gap, aa_real *logits) {
    aa_err err = {0};
    aa_arena arena;
    aa_kv kv;
    aa_activations *a = NULL;
    aa_arena_init(&arena, "recompute");
    check_ok(aa_kv_init(&kv, &s->model, n, false, &arena, &err));
    check_ok(aa_activations_new(&a, &s->model, AA_PASS_EVAL, 1, n, 1, &arena, &err));
    check_ok(aa_model_extend(&s->model, &s->session.backend, a, &kv, ids, n, logits, &err));
    int32_t best = 0;
    double second = -INFINITY;
    for (int32_t i = 1; i < V; i++)
        if (logits[i] > logits[best]) best = i;
    for (int32_t i = 0; i < V; i++)
        if (i != best && logits[i] > second) second = logits[i];
    *gap = logits[best] - second;
    aa_arena_release(&arena);
    return best;
}

static void test_greedy_equals_recomputing_everything(void **state) {
    (void)state;
    aa_err err = {0};
    stage s;
    open_random(&s, 64);
    aa_generation g = greedy(30, NULL);
    g.ignore_eos = true;
    aa_generated out;
    check_ok(aa_generate(&s.session, "hello", &g, &out, &err));
    int32_t ids[64];
    aa_real logits[V];
    size_t n = out.prompt_ids.len, different = 0;
    assert_int_equal(n, 5);
    memcpy(ids, out.prompt_ids.data, n * sizeof *ids);
    for (size_t i = 0; i < out.ids.len; i++) {
        double gap;
        int32_t best = recompute(&s, ids, n, &gap, logits);
        if (gap < 1e-4) break; /* a tie, which rounding may decide either way */
        assert_int_equal(out.ids.data[i], best);
        different += i > 0 && out.ids.data[i] != out.ids.data[i - 1];
        ids[n++] = best;
    }
    assert_true(n > 15 && different > 5);
    aa_generated_release(&out);
    close_stage(&s);
}

static void test_a_long_prompt_takes_several_passes(void **state) {
    (void)state;
    aa_err err = {0};
    stage s;
    open_random(&s, 700);
    assert_true(s.session.chunk < 300);
    char prompt[601];
    int32_t ids[600];
    aa_real logits[V];
    for (int i = 0; i < 600; i++) ids[i] = prompt[i] = (char)('a' + i * i % 23);
    prompt[600] = '\0';
    aa_generation g = greedy(0, NULL);
    aa_generated out;
    check_ok(aa_generate(&s.session, prompt, &g, &out, &err));
    assert_int_equal(s.session.kv.len, 600);
    double gap;
    recompute(&s, ids, 600, &gap, logits);
    check_near_f32("logits", s.session.logits, logits, V, 1e-4, 1e-4);
    aa_generated_release(&out);
    close_stage(&s);
}

static void test_tokens_cost_no_allocation(void **state) {
    (void)state;
    aa_err err = {0};
    stage s;
    open_random(&s, 1100);
    uint64_t calls[2];
    for (int i = 0; i < 2; i++) {
        uint64_t before = aa_heap_calls();
        aa_generation g = greedy(i ? 1000 : 10, NULL);
        g.ignore_eos = true;
        aa_generated out;
        check_ok(aa_generate(&s.session, "hi", &g, &out, &err));
        assert_int_equal(out.ids.len, g.max_tokens);
        aa_generated_release(&out);
        calls[i] = aa_heap_calls() - before;
    }
    assert_true(calls[1] - calls[0] <= 16); /* the two results growing by doubling */
    close_stage(&s);
}

/* What a session opened from the model's directory says. */
static void check_opened(const char *dir, aa_cpu *cpu, bool compact, const char *want) {
    aa_err err = {0};
    aa_session s;
    aa_generated out;
    aa_generation g = greedy(40, NULL);
    check_ok(aa_session_open(&s, dir, cpu, 0, &err));
    assert_int_equal(s.kv.capacity, 64); /* the model's seq */
    assert_int_equal(s.active_ids != NULL, compact);
    assert_int_equal(s.compact_map != NULL, compact);
    check_ok(aa_generate(&s, "a", &g, &out, &err));
    assert_string_equal(out.text.data, want);
    assert_int_equal(out.reason, AA_STOP_EOS);
    aa_generated_release(&out);
    aa_session_close(&s);
    check_ok(aa_session_open(&s, dir, cpu, 200, &err)); /* a longer context than the model's */
    g.ignore_eos = true;
    g.max_tokens = 150;
    g.sampling.temperature = compact ? 100 : 0; /* any id that can be drawn will be */
    check_ok(aa_generate(&s, "a", &g, &out, &err));
    assert_int_equal(out.ids.len, 150);
    for (size_t i = 0; compact && i < out.ids.len; i++)
        assert_true(out.ids.data[i] == EOS || memchr(VERSE, out.ids.data[i], sizeof VERSE - 1));
    aa_generated_release(&out);
    aa_session_close(&s);
}

static void test_a_written_model_opens(void **state) {
    (void)state;
    aa_err err = {0};
    stage s;
    bool exact = false;
    const char *want = "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z", *dir = check_temp_dir();
    open_reciting(&s, 64, true, false);
    check_ok(aa_hf_write(dir, &s.model, &(aa_hf_options){0}, &exact, &err));
    assert_true(exact);
    check_opened(dir, s.cpu, false, want);
    close_stage(&s);

    open_reciting(&s, 64, true, true);
    float mean[V] = {0};
    size_t n = (size_t)s.model.config.vocab;
    aa_hf_options o = {.active_ids = s.active, .n_active = n, .full_vocab = V, .mean_logit = mean};
    check_ok(aa_hf_write(dir, &s.model, &o, &exact, &err));
    check_opened(dir, s.cpu, true, want);
    aa_session other = {.chunk = 7};
    assert_int_equal(aa_session_open(&other, "no such model", s.cpu, 0, &err), AA_ENOTFOUND);
    assert_int_equal(other.chunk, 7);
    close_stage(&s);
}

/* The work of a child, every status passed on. 0: all went well; 40: memory ran out and nobody
 * pretended otherwise. */
static int whole_job(void) {
    stage s = {0};
    aa_err err = {0};
    aa_generated out = {0};
    aa_config c = {.arch = AA_ARCH_LLAMA,
                   .dim = 16,
                   .layers = 1,
                   .heads = 2,
                   .vocab = V,
                   .seq = 32,
                   .norm_eps = 1e-5,
                   .rope_theta = 10000,
                   .residual_scale = 1};
    aa_generation g = greedy(20, NULL);
    const char *stop[] = {"xx"};
    g.stop = stop;
    g.n_stop = 1;
    aa_arena_init(&s.arena, "test");
    aa_status st = aa_config_resolve(&c, &err);
    if (!st) st = aa_cpu_new(&s.cpu, 1, AA_ISA_AUTO, &err);
    if (!st) st = aa_model_init(&s.model, &c, AA_MODEL_PARAMS, 32, s.cpu, &s.arena, &err);
    if (!st) st = aa_tokenizer_new_bytes(&s.tokenizer, &err);
    if (!st) {
        st = aa_session_init(&s.session, &s.model, s.tokenizer, s.cpu, 0, NULL, NULL, &err);
        if (st && s.session.model) return 1; /* touched on failure */
    }
    if (!st) st = aa_generate(&s.session, "hi", &g, &out, &err);
    if (st && out.ids.data) return 1;
    bool said = err.message[0] != '\0';
    aa_generated_release(&out);
    if (s.session.model) aa_session_close(&s.session);
    aa_tokenizer_free(s.tokenizer);
    aa_arena_release(&s.arena);
    if (s.cpu) aa_cpu_free(s.cpu);
    return st == AA_OK ? 0 : st == AA_ENOMEM && said ? 40 : 2;
}

static void test_failing_memory_is_reported(void **state) {
    (void)state;
    int n = 1, rc = 40;
    for (; rc == 40 && n < 1000; n++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            char number[16];
            snprintf(number, sizeof number, "%d", n);
            setenv("AA_FAIL_ALLOC_AT", number, 1);
            execl(program, program, "--job", (char *)NULL);
            _exit(99);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        rc = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        if (rc != 40 && rc != 0) fail_msg("allocation %d failing: exit status %d", n, rc);
    }
    assert_int_equal(rc, 0);
    assert_true(n > 8);
}

/* ---- conversations --------------------------------------------------------------------------- */

static const char zephyr[] =
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
    "{{ '<|user|>\\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'system' %}\n"
    "{{ '<|system|>\\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\\n' + message['content'] + eos_token }}\n{% endif %}\n{% endfor %}";

static aa_conversation *converse(stage *s, const char *jinja, const char *system, aa_chat **chat) {
    aa_err err = {0};
    aa_conversation *c = NULL;
    if (jinja) check_ok(aa_chat_new(chat, jinja, s->tokenizer, &err));
    else check_ok(aa_chat_new_raw(chat, s->tokenizer, &err));
    check_ok(aa_conversation_new(&c, &s->session, *chat, system, NULL, &err));
    return c;
}

/* The answer is that of a session which reads all of the prompt. */
static void check_fresh(stage *s, const aa_generated *said, const aa_generation *g) {
    aa_err err = {0};
    aa_generated fresh = {0};
    stage other = *s;
    open_session(&other, s->session.kv.capacity, false);
    check_ok(aa_generate_ids(&other.session, said->prompt_ids.data, said->prompt_ids.len, g, &fresh,
                             &err));
    assert_int_equal(fresh.ids.len, said->ids.len);
    assert_memory_equal(fresh.ids.data, said->ids.data, fresh.ids.len * 4);
    aa_generated_release(&fresh);
    aa_session_close(&other.session);
}

static void test_conversation(void **state) {
    (void)state;
    for (int with_template = 0; with_template < 2; with_template++) {
        aa_err err = {0};
        aa_chat *chat = NULL;
        stage s;
        open_random(&s, 512);
        memset(s.model.head.weight->data, 0, C * sizeof(aa_real)); /* byte 0 is in no message */
        aa_model_changed(&s.model);
        aa_conversation *c = converse(&s, with_template ? zephyr : NULL, "Be brief.", &chat);
        aa_generation g = greedy(20, NULL);
        g.shift = true;
        aa_ids before = {0};
        aa_text want = {0}, read = {0};
        aa_text_add(&want, with_template ? "<|system|>\nBe brief.<|endoftext|>\n" : "Be brief.\n");
        for (int turn = 0; turn < 4; turn++) {
            aa_generated out = {0};
            check_ok(aa_conversation_say(c, "And why?", &g, &out, &err));
            assert_int_equal(aa_conversation_length(c), 3 + 2 * turn);
            aa_text_add(&want, with_template
                                   ? "<|user|>\nAnd why?<|endoftext|>\n<|assistant|>\n"
                                   : "And why?\n");
            aa_text_clear(&read);
            check_ok(aa_decode(s.tokenizer, out.prompt_ids.data, out.prompt_ids.len,
                               AA_DECODE_SPECIALS, &read, &err));
            assert_string_equal(read.data, want.data);
            aa_text_add(&want, out.text.data ? out.text.data : "");
            aa_text_add(&want, with_template ? "<|endoftext|>\n" : "\n");
            if (with_template) { /* a text of bytes that are no UTF-8 would be encoded anew, too */
                assert_true(out.prompt_ids.len > before.len);
                assert_memory_equal(out.prompt_ids.data, before.data, before.len * 4);
            }
            check_fresh(&s, &out, &g);
            aa_ids_release(&before);
            before = out.prompt_ids;
            out.prompt_ids = (aa_ids){0};
            aa_generated_release(&out);
        }
        check_ok(aa_conversation_reset(c, NULL, &err));
        assert_int_equal(aa_conversation_length(c), 1);
        aa_ids_release(&before);
        aa_text_release(&want);
        aa_text_release(&read);
        aa_conversation_free(c);
        aa_chat_free(chat);
        close_stage(&s);
    }
}

/* What the cache holds is not read again: another cache, other answer. */
static void test_kept_cache(void **state) {
    (void)state;
    aa_err err = {0};
    stage s;
    open_random(&s, 128);
    aa_generation g = greedy(24, NULL);
    aa_generated first = {0}, again = {0}, spoilt = {0};
    const int32_t ids[] = {'W', 'h', 'a', 't', ' ', 'i', 's', ' ', 'i', 't', '?', ' ', 'O', 'h'};
    const size_t n = sizeof ids / sizeof *ids;
    check_ok(aa_generate_ids(&s.session, ids, n, &g, &first, &err));
    check_ok(aa_generate_ids(&s.session, ids, n, &g, &again, &err));
    assert_memory_equal(first.ids.data, again.ids.data, first.ids.len * 4);
    aa_generated_release(&again);
    s.session.history[0] = 'V'; /* the cache is that of another text */
    s.session.kv.len = n;
    check_ok(aa_generate_ids(&s.session, ids, n, &g, &again, &err));
    assert_memory_equal(first.ids.data, again.ids.data, first.ids.len * 4);
    const int32_t other[] = {'w', 'H', 'A', 'T', '!', 'I', 'S', '!', 'I', 'T', '!', '!', 'o', 'H'};
    check_ok(aa_generate_ids(&s.session, other, n, &g, &spoilt, &err));
    memcpy(s.session.history, ids, sizeof ids); /* and now it claims to be that of this one */
    s.session.kv.len = n;
    aa_generated_release(&again);
    check_ok(aa_generate_ids(&s.session, ids, n, &g, &again, &err));
    assert_true(again.ids.len != first.ids.len ||
                memcmp(first.ids.data, again.ids.data, first.ids.len * 4) != 0);
    aa_generated_release(&first);
    aa_generated_release(&again);
    aa_generated_release(&spoilt);
    close_stage(&s);
}

/* A full context forgets turns, not the system prompt; within an answer it shifts and keeps it. */
static void test_full_conversation(void **state) {
    (void)state;
    aa_err err = {0};
    aa_chat *chat = NULL;
    stage s;
    open_random(&s, 128);
    aa_conversation *c = converse(&s, zephyr, "Be brief.", &chat);
    aa_generation g = greedy(150, NULL);
    g.shift = true;
    g.ignore_eos = true;
    static const char head[] = "<|system|>\nBe brief.";
    for (int turn = 0; turn < 4; turn++) {
        aa_generated out = {0};
        check_ok(aa_conversation_say(c, "Go on.", &g, &out, &err));
        assert_int_equal(out.ids.len, 150);
        assert_true(out.prompt_ids.len <= 96);
        for (size_t i = 0; i < sizeof head - 1; i++) {
            assert_int_equal(out.prompt_ids.data[i], (unsigned char)head[i]);
            assert_int_equal(s.session.history[i], (unsigned char)head[i]);
        }
        assert_int_equal(aa_conversation_length(c), 3);
        aa_generated_release(&out);
    }
    char much[200];
    memset(much, 'x', 199);
    much[199] = 0;
    aa_generated out = {0};
    assert_int_equal(aa_conversation_say(c, much, &g, &out, &err), AA_EUSAGE);
    assert_non_null(strstr(err.message, "--context"));
    check_ok(aa_conversation_say(c, "Go on.", &g, &out, &err)); /* and goes on after that */
    aa_generated_release(&out);
    aa_conversation_free(c);
    aa_chat_free(chat);
    close_stage(&s);
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "--job")) return whole_job();
    program = argv[0];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streaming_sends_whole_characters),
        cmocka_unit_test(test_stop_texts),
        cmocka_unit_test(test_end_of_text),
        cmocka_unit_test(test_the_caller_can_stop),
        cmocka_unit_test(test_a_full_context_ends),
        cmocka_unit_test(test_a_full_context_shifts),
        cmocka_unit_test(test_compact_vocabulary),
        cmocka_unit_test(test_a_seed_is_a_text),
        cmocka_unit_test(test_greedy_equals_recomputing_everything),
        cmocka_unit_test(test_a_long_prompt_takes_several_passes),
        cmocka_unit_test(test_tokens_cost_no_allocation),
        cmocka_unit_test(test_a_written_model_opens),
        cmocka_unit_test(test_failing_memory_is_reported),
        cmocka_unit_test(test_conversation),
        cmocka_unit_test(test_kept_cache),
        cmocka_unit_test(test_full_conversation),
    };
    return cmocka_run_group_tests_name("unit_generate", tests, NULL, NULL);
}
