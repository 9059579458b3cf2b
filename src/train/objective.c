#include "train/objective.h"

#include <stdio.h>
#include <string.h>
#include "base/rng.h"
#include "infer/infer.h"
#include "model/activations.h"
#include "train/judge.h"

enum {
    BASIS_SEQUENCES = 64, BASIS_ROUNDS = 3, BASIS_SHARE = 10,
    LEAST_LOGITS = 128                    /* rows that a pass has room for if it has as many */
};

/* A tensor of the model that is made of two of the engine: B = basis core, or m = scale length. */
typedef struct derived {
    aa_tensor *tensor;
    aa_tensor parts[2];                   /* basis and core; length and scale */
    uint64_t version;                     /* of the parts together, when it was made; or 0 */
} derived;

struct aa_lm_objective {
    aa_arena arena;
    aa_model *model; aa_cpu *cpu;
    aa_activations *activations;
    aa_zo_config config;
    aa_lm_data data;
    size_t pass;                          /* sequences in a pass */
    aa_zo_objective zo;
    aa_zo_row *rows; aa_zo_matrix *matrices;
    aa_probe_rows *index; aa_tensor **parts;              /* [n_tensors] */
    derived *derived; size_t n_derived;
    aa_prober prober;
    int32_t *ids, *targets, *start;       /* of a pass: [pass * T], and pass + 1 */
    aa_real *loss;
    aa_probe_stream *streams;             /* [pass] */
    size_t *owner;                        /* [pass] the probe of each sequence */
    double *nats; uint64_t *counts;       /* [probes at most] */
    aa_real *hits;                        /* [pass * T], where they are asked for; else NULL */
    aa_session session; bool has_session; /* that writes texts */
    aa_judge judge;
    aa_probe_watch watch;
    uint64_t basis_data; bool has_basis;
};

const aa_zo_objective *aa_lm_objective_of(const aa_lm_objective *o) { return &o->zo; }

/* ---- rows ------------------------------------------------------------------------------------ */

static int add_row(aa_lm_objective *o, aa_tensor *t, size_t id, aa_factor factor) {
    o->rows[o->zo.space.n_rows] = (aa_zo_row){t, id, factor};
    return (int)o->zo.space.n_rows++;
}

/* Biases are no part of an adapter. */
static void add_base_rows(aa_lm_objective *o) {
    for (size_t i = 0; i < o->model->n_base; i++) {
        aa_tensor *t = &o->model->tensors[i];
        const bool vector = aa_tensor_is_vector(t);
        if (!vector) o->index[i].own = add_row(o, t, i, AA_FACTOR_WHOLE);
        else if (o->config.norms && (t->kind == AA_KIND_NORM || !o->model->lora))
            o->index[i].own = add_row(o, t, i, AA_FACTOR_NORM);
    }
}

/* One that the model has no row for. */
static void make_tensor(aa_lm_objective *o, aa_tensor *t, const aa_tensor *like, const char *suffix,
                        size_t rows, size_t cols) {
    *t = (aa_tensor){.kind = like->kind, .layer = like->layer, .rows = rows, .cols = cols};
    const char *dot = strrchr(like->name, '.');
    snprintf(t->name, sizeof t->name, "%.*s.%s", (int)(dot ? dot - like->name : 0), like->name,
             suffix);
    t->data = aa_arena_new(&o->arena, aa_real, rows * cols);
}

static void add_core(aa_lm_objective *o, aa_zo_matrix *m, size_t id, aa_tensor *B) {
    const size_t at = (size_t)(B - o->model->tensors);
    derived *d = &o->derived[o->n_derived++];
    d->tensor = B;
    make_tensor(o, &d->parts[0], B, "lora_B.basis", B->rows, B->cols);
    make_tensor(o, &d->parts[1], B, "lora_core", B->cols, B->cols);
    m->b = add_row(o, &d->parts[0], id, AA_FACTOR_B);
    m->core = o->index[at].core = add_row(o, &d->parts[1], id, AA_FACTOR_CORE);
    o->parts[at] = d->parts;
}

static void add_scale(aa_lm_objective *o, size_t id, aa_tensor *m) {
    derived *d = &o->derived[o->n_derived++];
    d->tensor = m;
    make_tensor(o, &d->parts[0], m, "length", 1, m->cols);
    make_tensor(o, &d->parts[1], m, "scale", 1, m->cols);
    for (size_t j = 0; d->parts[1].data && j < m->cols; j++) d->parts[1].data[j] = 1;
    if (d->parts[0].data && m->data) memcpy(d->parts[0].data, m->data, m->cols * sizeof *m->data);
    o->index[id].scale = add_row(o, &d->parts[1], id, AA_FACTOR_SCALE);
    o->parts[id] = d->parts;
}

static void add_site(aa_lm_objective *o, int layer, aa_target target) {
    aa_tensor *A, *B, *W, *magnitude = aa_lora_magnitude(o->model, layer, target);
    aa_zo_matrix *m = &o->matrices[o->zo.space.n_matrices];
    char name[72];

    aa_lora_find(o->model, layer, target, &A, &B);
    if (!A) return;
    snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, aa_target_module(target));
    W = aa_model_find(o->model, name);
    const size_t id = (size_t)(W - o->model->tensors);
    *m = (aa_zo_matrix){
        .whole = o->index[id].own, .a = -1, .core = -1, .b = -1,
        .scale = (aa_real)aa_lora_scale(o->model->lora,
                                        aa_lora_site_of(o->model->lora, layer, target))};
    o->zo.space.n_matrices++;
    if (o->config.space == AA_ZO_SCALE) {
        if (magnitude) add_scale(o, id, magnitude);
        return;
    }
    m->a = o->index[A - o->model->tensors].own = add_row(o, A, id, AA_FACTOR_A);
    if (o->config.space == AA_ZO_CORE) add_core(o, m, id, B);
    else m->b = o->index[B - o->model->tensors].own = add_row(o, B, id, AA_FACTOR_B);
}

static aa_status make_space(aa_lm_objective *o, aa_err *err) {
    const aa_model *m = o->model;
    const size_t L = (size_t)m->config.layers, sites = m->lora ? L * AA_TARGET_COUNT : 0;

    o->rows = aa_arena_new(&o->arena, aa_zo_row, m->n_tensors + sites);
    o->matrices = aa_arena_new(&o->arena, aa_zo_matrix, sites);
    o->derived = aa_arena_new(&o->arena, derived, sites);
    o->index = aa_arena_new(&o->arena, aa_probe_rows, m->n_tensors);
    o->parts = aa_arena_new(&o->arena, aa_tensor *, m->n_tensors);
    AA_TRY(aa_arena_status(&o->arena, err));
    for (size_t i = 0; i < m->n_tensors; i++) o->index[i] = (aa_probe_rows){-1, -1, -1};
    o->zo.space.rows = o->rows;
    o->zo.space.matrices = o->matrices;
    add_base_rows(o);
    for (int layer = 0; m->lora && layer < (int)L; layer++)
        for (aa_target t = 0; t < AA_TARGET_COUNT; t++) add_site(o, layer, t);
    return aa_arena_status(&o->arena, err);
}

/* What of this model the method cannot move. */
static aa_status check_model(const aa_lm_objective *o, aa_err *err) {
    const bool dora = o->model->lora && o->model->lora->dora,
               scale = o->config.space == AA_ZO_SCALE;

    if (o->config.space == AA_ZO_WHOLE && o->model->config.head_rank)
        return aa_fail(err, AA_EUNSUPPORTED,
                       "zo-space whole: this model's head is of low rank, whose parts have no "
                       "directions; use an adapter");
    if (scale && !dora)
        return aa_fail(err, AA_EUSAGE,
                       "zo-space scale moves the magnitudes of an adapter that has them: use "
                       "--adapter dora");
    if (dora && !scale)
        return aa_fail(err, AA_EUSAGE,
                       "--adapter dora: its magnitudes move by zo-space scale, and factors alone "
                       "do not: use --adapter lora, or --zo-method qzo");
    return AA_OK;
}

void aa_lm_objective_sync(aa_lm_objective *o) {
    for (size_t i = 0; i < o->n_derived; i++) {
        derived *d = &o->derived[i];
        aa_tensor *t = d->tensor;
        const aa_tensor *x = &d->parts[0], *y = &d->parts[1];
        const uint64_t version = 1 + x->version + y->version;

        if (version == d->version) continue;
        if (t->kind == AA_KIND_MAGNITUDE)
            for (size_t j = 0; j < t->cols; j++) t->data[j] = x->data[j] * y->data[j];
        else {                            /* by what has the same bits in every instruction set */
            aa_zero(o->cpu, t->data, aa_tensor_size(t));
            aa_lowrank_merge(o->cpu, t->data, x->data, y->data, t->rows, t->cols, t->cols, 1);
        }
        t->version++;
        d->version = version;
    }
}

/* ---- passes ---------------------------------------------------------------------------------- */

/* Appends sequence number n. */
static void read_sequence(const aa_lm_objective *o, uint64_t n, aa_packed *p) {
    const aa_lm_data *d = &o->data;

    if (d->examples) {
        (void)aa_examples_window(d->examples, d->seed, n, p);
        return;
    }
    aa_stream_window(d->stream, d->seed, n, d->T, p->ids + p->n_rows, p->targets + p->n_rows);
    p->n_rows += d->T;
    p->start[++p->n_sequences] = (int32_t)p->n_rows;
}

static aa_packed no_sequences(const aa_lm_objective *o) {
    o->start[0] = 0;
    return (aa_packed){.ids = o->ids, .targets = o->targets, .start = o->start};
}

static aa_batch batch_of(const aa_lm_objective *o, const aa_packed *p) {
    return (aa_batch){.B = p->n_sequences, .T = o->data.T, .ids = p->ids, .targets = p->targets,
                      .start = o->data.examples ? p->start : NULL};
}

/* The probe of each sequence of a pass as streams of rows. */
static void make_streams(aa_lm_objective *o, const aa_packed *p, const aa_zo_probe *probes) {
    size_t n = 0;

    for (size_t s = 0; s < p->n_sequences; s++) {
        const size_t first = (size_t)p->start[s], rows = (size_t)p->start[s + 1] - first;
        if (!s || o->owner[s] != o->owner[s - 1])
            o->streams[n++] = (aa_probe_stream){first, 0, &probes[o->owner[s]]};
        o->streams[n - 1].n_rows += rows;
    }
    o->prober.streams = o->streams;
    o->prober.n_streams = n;
}

/* Losses of the pass's sequences, numbers k .. of all that the step has. */
static void add_losses(aa_lm_objective *o, const aa_packed *p, size_t k, double *each) {
    for (size_t s = 0; s < p->n_sequences; s++) {
        double nats = 0;
        uint64_t n = 0;
        for (int32_t i = p->start[s]; i < p->start[s + 1]; i++) {
            const bool learned = p->targets[i] >= 0;
            nats += o->hits ? learned - (double)o->hits[i] : (double)o->loss[i];
            n += learned;
        }
        if (o->data.objective == AA_OBJECTIVE_EXACT) {
            nats = nats > 0;              /* tokens that were missed */
            n = 1;
        }
        o->nats[o->owner[s]] += nats;
        o->counts[o->owner[s]] += n;
        if (each) each[k + s] = n ? nats / (double)n : 0;
    }
}

/* ---- texts ----------------------------------------------------------------------------------- */

static aa_status to_text(const aa_lm_objective *o, const int32_t *ids, size_t n, unsigned flags,
                         aa_text *out, aa_err *err) {
    const int32_t *full = o->data.active_ids;

    for (size_t i = 0; i < n; i++) {
        const int32_t id = full ? full[ids[i]] : ids[i];
        AA_TRY(aa_decode(o->data.tokenizer, &id, 1, i ? flags & ~(unsigned)AA_DECODE_START : flags,
                         out, err));
    }
    return aa_text_status(out, err);
}

/* Where what is learned of the pass's only sequence begins: ids[at] is the first such token. */
static size_t learned_from(const aa_lm_objective *o, const aa_packed *p) {
    size_t i = 0;

    if (!o->data.examples) return p->n_rows / 2;
    while (i + 1 < p->n_rows && p->targets[i] < 0) i++;
    return i + 1;
}

/* What the model says after the beginning of sequence number k. */
static aa_status write_text(aa_lm_objective *o, uint64_t k, aa_err *err) {
    aa_packed p = no_sequences(o);
    aa_text prompt = {0}, reference = {0};
    aa_generated out = {0};
    aa_generation how = {.max_tokens = o->data.text_tokens, .shift = true};

    aa_sampling_defaults(&how.sampling);
    how.sampling.temperature = 0;
    read_sequence(o, k, &p);
    const size_t at = learned_from(o, &p);
    aa_status st = to_text(o, p.ids, at, AA_DECODE_SPECIALS | AA_DECODE_START, &prompt, err);
    for (size_t i = at - 1; !st && i < p.n_rows; i++)
        if (p.targets[i] >= 0) st = to_text(o, p.targets + i, 1, AA_DECODE_PLAIN, &reference, err);
    if (!st) st = aa_generate(&o->session, prompt.len ? prompt.data : "", &how, &out, err);
    if (!st) aa_judge_add(&o->judge, &prompt, &out.text, &reference);
    aa_generated_release(&out);
    aa_text_release(&prompt);
    aa_text_release(&reference);
    return st;
}

static aa_status judge_texts(aa_lm_objective *o, const aa_zo_view *view, const aa_zo_probe *probes,
                             size_t n, double *losses, double *each, aa_err *err) {
    const size_t each_n = o->data.n;
    aa_status st = AA_OK;

    o->prober.view = view;
    o->prober.activations = o->session.activations;
    o->prober.streams = o->streams;
    o->prober.n_streams = 1;
    for (size_t i = 0; !st && i < n * each_n; i++) {
        const aa_zo_probe *probe = &probes[i / each_n];
        o->streams[0] = (aa_probe_stream){0, SIZE_MAX, probe};
        st = write_text(o, probe->data * each_n + i % each_n, err);
    }
    o->prober.view = NULL;
    o->prober.activations = o->activations;
    double *scores = st ? NULL : aa_heap_alloc(n * each_n, sizeof *scores);
    if (!st && !scores) st = aa_fail_memory(err, "scores", n * each_n * sizeof *scores);
    if (!st) st = aa_judge_scores(&o->judge, scores, err);
    for (size_t i = 0; !st && i < n; i++) {
        double sum = 0;
        for (size_t s = 0; s < each_n; s++) {
            sum += scores[i * each_n + s];
            if (each) each[i * each_n + s] = -scores[i * each_n + s];
        }
        losses[i] = -sum / (double)each_n;
    }
    aa_heap_free(scores);
    return st;
}

static aa_status evaluate(void *self, const aa_zo_view *view, const aa_zo_probe *probes, size_t n,
                          double *losses, double *each, aa_err *err) {
    aa_lm_objective *o = self;
    const size_t each_n = o->data.n, total = n * each_n;

    aa_lm_objective_sync(o);
    if (o->data.objective == AA_OBJECTIVE_COMMAND)
        return judge_texts(o, view, probes, n, losses, each, err);
    for (size_t i = 0; i < n; i++) o->nats[i] = 0, o->counts[i] = 0;
    o->prober.view = view;
    o->activations->hits = o->hits;
    aa_status st = AA_OK;
    for (size_t k = 0; !st && k < total;) {
        aa_packed p = no_sequences(o);
        for (; p.n_sequences < o->pass && k + p.n_sequences < total;) {
            const size_t at = k + p.n_sequences, probe = at / each_n;
            o->owner[p.n_sequences] = probe;
            read_sequence(o, probes[probe].data * each_n + at % each_n, &p);
        }
        const aa_batch batch = batch_of(o, &p);
        make_streams(o, &p, probes);
        st = aa_model_loss(o->model, &o->prober.backend, o->activations, &batch, o->loss, err);
        if (!st) add_losses(o, &p, k, each);
        k += p.n_sequences;
    }
    o->prober.view = NULL;
    o->activations->hits = NULL;
    for (size_t i = 0; i < n; i++)
        losses[i] = o->counts[i] ? o->nats[i] / (double)o->counts[i] : 0;
    return st;
}

/* Sequences first .. first + n - 1, pass by pass. */
typedef aa_status each_pass(aa_lm_objective *o, const aa_packed *p, void *ctx, aa_err *err);
static aa_status for_each_pass(aa_lm_objective *o, uint64_t first, size_t n, each_pass *each,
                               void *ctx, aa_err *err) {
    for (size_t k = 0; k < n;) {
        aa_packed p = no_sequences(o);
        while (p.n_sequences < o->pass && k + p.n_sequences < n)
            read_sequence(o, first + k + p.n_sequences, &p);
        AA_TRY(each(o, &p, ctx, err));
        k += p.n_sequences;
    }
    return AA_OK;
}

/* ---- bases ----------------------------------------------------------------------------------- */

static aa_status plain_pass(aa_lm_objective *o, const aa_packed *p, void *ctx, aa_err *err) {
    const aa_batch batch = batch_of(o, p);
    (void)ctx;
    return aa_model_loss(o->model, &o->prober.backend, o->activations, &batch, NULL, err);
}

static void for_each_a(aa_lm_objective *o, void (*each)(aa_lm_objective *, size_t tensor)) {
    for (size_t i = o->model->n_base; i < o->model->n_tensors; i++)
        if (o->model->tensors[i].kind == AA_KIND_LORA_A) each(o, i);
}

static void begin_basis(aa_lm_objective *o, size_t i) {
    aa_tensor *t = &o->model->tensors[i];
    aa_rng rng;

    aa_rng_init(&rng, o->data.seed, AA_RNG_PERTURB, i);
    for (size_t k = 0; k < aa_tensor_size(t); k++)
        t->data[k] = (aa_real)(2 * aa_rng_uniform(&rng) - 1);
    aa_zo_orthonormalize(t->data, t->rows, t->cols);
    t->version++;
}

static void clear_sum(aa_lm_objective *o, size_t i) {
    aa_zero(o->cpu, o->watch.sum + o->watch.at[i], aa_tensor_size(&o->model->tensors[i]));
}

static void turn_basis(aa_lm_objective *o, size_t i) {
    aa_tensor *t = &o->model->tensors[i];

    memcpy(t->data, o->watch.sum + o->watch.at[i], aa_tensor_size(t) * sizeof *t->data);
    aa_zo_orthonormalize(t->data, t->rows, t->cols);
    t->version++;
}

static size_t basis_sequences(const aa_zo_config *c, size_t n) {
    const size_t forwards = (size_t)c->refresh * aa_zo_probes(c) * n,
                 most = forwards / BASIS_SHARE / BASIS_ROUNDS;

    if (c->refresh && most < BASIS_SEQUENCES) return most > n ? most : n;
    return n > BASIS_SEQUENCES ? n : BASIS_SEQUENCES;
}

size_t aa_lm_basis_forwards(const aa_zo_config *c, size_t n_sequences) {
    return BASIS_ROUNDS * basis_sequences(c, n_sequences);
}

/* All of them, by power iterations over the same sequences. They are made where they will be: B, or
 * the core, is 0 while a basis is taken, so nothing of them enters the passes. */
static aa_status make_bases(aa_lm_objective *o, uint64_t data, aa_err *err) {
    aa_status st = AA_OK;

    aa_lm_objective_sync(o);
    for_each_a(o, begin_basis);
    o->prober.watch = &o->watch;
    for (int round = 0; !st && round < BASIS_ROUNDS; round++) {
        for_each_a(o, clear_sum);
        st = for_each_pass(o, data * o->data.n, basis_sequences(&o->config, o->data.n), plain_pass,
                           NULL, err);
        for_each_a(o, turn_basis);
    }
    o->prober.watch = NULL;
    return st;
}

static aa_status basis(void *self, size_t row, size_t rank, uint64_t data, aa_real *a,
                       aa_err *err) {
    aa_lm_objective *o = self;
    const aa_tensor *t = o->rows[row].tensor;

    aa_assert(t->kind == AA_KIND_LORA_A && t->rows == rank);
    if (!o->has_basis || o->basis_data != data) AA_TRY(make_bases(o, data, err));
    o->has_basis = true;
    o->basis_data = data;
    if (a != t->data) memcpy(a, t->data, aa_tensor_size(t) * sizeof *a);
    return AA_OK;
}

/* ---- gradients, for hybrids ------------------------------------------------------------------ */

static aa_status count_targets(aa_lm_objective *o, const aa_packed *p, void *ctx, aa_err *err) {
    uint64_t *n = ctx;
    (void)o, (void)err;
    for (size_t i = 0; i < p->n_rows; i++) *n += p->targets[i] >= 0;
    return AA_OK;
}

static aa_status backward_pass(aa_lm_objective *o, const aa_packed *p, void *ctx, aa_err *err) {
    const uint64_t *n = ctx;
    const aa_batch batch = batch_of(o, p);
    return aa_model_loss_and_grad(o->model, &o->prober.backend, o->activations, &batch, o->loss,
                                  (aa_real)(1.0 / (double)*n), err);
}

static aa_status gradient(void *self, uint64_t data, aa_err *err) {
    aa_lm_objective *o = self;
    const uint64_t first = data * o->data.n;
    uint64_t n = 0;

    AA_TRY(for_each_pass(o, first, o->data.n, count_targets, &n, err));
    if (!n) return AA_OK;
    AA_TRY(for_each_pass(o, first, o->data.n, backward_pass, &n, err));
    aa_model_finish_grads(o->model, o->cpu);
    return AA_OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static size_t widest_vector(const aa_model *m) {
    size_t n = 0;

    for (size_t i = 0; i < m->n_base; i++) {
        const aa_tensor *t = &m->tensors[i];
        if (aa_tensor_is_vector(t) && t->cols > n) n = t->cols;
    }
    const aa_config *c = &m->config;
    const size_t qkv = (size_t)((c->heads + 2 * c->kv_heads) * c->head_dim),
                 gate_up = 2 * (size_t)c->ffn;
    if (qkv > n) n = qkv;
    return gate_up > n ? gate_up : n;
}

static void layout_bases(aa_lm_objective *o) {
    size_t n = 0;

    size_t *at = aa_arena_new(&o->arena, size_t, o->model->n_tensors);
    for (size_t i = o->model->n_base; at && i < o->model->n_tensors; i++) {
        if (o->model->tensors[i].kind != AA_KIND_LORA_A) continue;
        at[i] = n;
        n += aa_tensor_size(&o->model->tensors[i]);
    }
    /* No pass for bases has logits, so their place is free. */
    size_t rows = o->pass * o->data.T < LEAST_LOGITS ? o->pass * o->data.T : LEAST_LOGITS;
    if (o->activations) rows = o->activations->head_rows;
    const bool fits = n <= rows * (size_t)o->model->config.vocab;
    o->watch = (aa_probe_watch){at, fits ? o->activations ? o->activations->logits : NULL
                                         : aa_arena_new(&o->arena, aa_real, n)};
    o->zo.basis = basis;
}

static void layout_passes(aa_lm_objective *o) {
    const size_t rows = o->pass * o->data.T, probes = aa_zo_probes(&o->config),
                 estimate = 2 * (size_t)o->config.estimate,
                 most = probes > estimate ? probes : estimate;

    o->ids = aa_arena_new(&o->arena, int32_t, rows);
    o->targets = aa_arena_new(&o->arena, int32_t, rows);
    o->start = aa_arena_new(&o->arena, int32_t, o->pass + 1);
    o->loss = aa_arena_new(&o->arena, aa_real, rows);
    o->streams = aa_arena_new(&o->arena, aa_probe_stream, o->pass);
    o->owner = aa_arena_new(&o->arena, size_t, o->pass);
    o->nats = aa_arena_new(&o->arena, double, most);
    o->counts = aa_arena_new(&o->arena, uint64_t, most);
    o->prober.list = aa_arena_new(&o->arena, aa_lowrank_stream, o->pass);
    o->prober.vector = aa_arena_new(&o->arena, aa_real, widest_vector(o->model));
    if (o->config.space == AA_ZO_CORE)
        o->prober.inner = aa_arena_new(&o->arena, aa_real,
                                       rows * aa_lora_widest(o->model->lora, &o->model->config));
    if (o->config.basis == AA_ZO_ACTIVATION && o->model->lora) layout_bases(o);
    o->zo.n_sequences = o->data.n;
    o->zo.evaluate = evaluate;
    if (o->model->grads) o->zo.gradient = gradient;
    if (o->data.objective == AA_OBJECTIVE_ACCURACY || o->data.objective == AA_OBJECTIVE_EXACT)
        o->hits = aa_arena_new(&o->arena, aa_real, rows);
}

static aa_status open_judge(aa_lm_objective *o, aa_err *err) {
    const aa_lm_data *d = &o->data;

    if (!d->tokenizer)
        return aa_fail(err, AA_EUSAGE,
                       "--objective command judges texts, which need a tokenizer: give "
                       "--tokenizer");
    o->judge = (aa_judge){.command = d->command, .timeout_s = d->timeout_s,
                          .most_per_s = d->most_per_s};
    AA_TRY(aa_session_init(&o->session, o->model, d->tokenizer, o->cpu, d->T, d->active_ids,
                           d->compact_map, err));
    o->has_session = true;
    o->session.backend = o->prober.backend;
    return AA_OK;
}

aa_status aa_lm_objective_open(aa_lm_objective **out, const aa_zo_config *config, aa_model *model,
                               aa_activations *activations, aa_cpu *cpu, const aa_lm_data *data,
                               size_t pass, aa_err *err) {
    aa_lm_objective *o = aa_heap_alloc(1, sizeof *o);
    if (!o) return aa_fail_memory(err, "the objective", sizeof *o);
    *o = (aa_lm_objective){.model = model, .cpu = cpu, .activations = activations,
                           .config = *config, .pass = pass};
    aa_arena_init(&o->arena, "objective");
    o->prober = (aa_prober){.cpu = cpu, .model = model, .activations = activations};
    aa_prober_init(&o->prober);
    o->zo.self = o;
    if (data) o->data = *data;
    aa_status st = check_model(o, err);
    if (!st) st = make_space(o, err);
    if (!st && data) {
        layout_passes(o);
        st = aa_arena_status(&o->arena, err);
    }
    if (!st && activations && o->data.objective == AA_OBJECTIVE_COMMAND) st = open_judge(o, err);
    if (st) {
        aa_lm_objective_close(o);
        return st;
    }
    o->prober.rows = o->index;
    o->prober.parts = o->parts;
    *out = o;
    return AA_OK;
}

void aa_lm_objective_close(aa_lm_objective *o) {
    if (!o) return;
    if (o->has_session) aa_session_close(&o->session);
    aa_judge_release(&o->judge);
    aa_arena_release(&o->arena);
    aa_heap_free(o);
}

/* A model without memory: rows that will have some have a data that is not NULL. */
static void pretend(aa_model *m, aa_tensor *rows, bool stored) {
    static aa_real somewhere[1];

    aa_model_lora_rows(&m->config, m->lora, rows, m->n_tensors);
    for (size_t i = 0; i < m->n_tensors; i++)
        if (i >= m->n_base || aa_tensor_is_vector(&rows[i]) || !stored) rows[i].data = somewhere;
    for (size_t i = 0; i < m->n_tensors; i++)
        if (rows[i].kind == AA_KIND_MAGNITUDE) rows[i].data = NULL;
    m->tensors = rows;
}

aa_status aa_lm_objective_measure(uint64_t *out, const aa_zo_config *config, const aa_config *c,
                                  const aa_lora *lora, bool stored, const aa_lm_data *data,
                                  size_t pass, aa_err *err) {
    aa_model m = {.config = *c, .lora = lora, .n_base = aa_model_rows(c, NULL, 0)};
    aa_lm_objective *o = NULL;
    uint64_t engine = 0;

    m.n_tensors = aa_model_lora_rows(c, lora, NULL, 0);
    aa_tensor *rows = aa_heap_alloc(m.n_tensors, sizeof *rows);
    if (!rows) return aa_fail_memory(err, "the parameter table", 0);
    pretend(&m, rows, stored);
    aa_status st = aa_lm_objective_open(&o, config, &m, NULL, NULL, data, pass, err);
    if (!st && config->hybrid != AA_ZO_ALONE) o->zo.gradient = gradient;
    if (!st) st = aa_zo_measure_memory(&engine, config, &o->zo, err);
    if (!st) *out = engine + o->arena.used_bytes;
    aa_lm_objective_close(o);
    aa_heap_free(rows);
    return st;
}
