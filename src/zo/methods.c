/* zo/methods: every method as a row: which settings it begins from.
 *
 * A method is a choice of five things that the engine composes: what moves and its basis, whose
 * data, the estimator, the combiner, and when adapters are merged. So a row is a set of values for
 * the options of options.def, and a user's own value takes the place of any of them. The rank is
 * that of the adapters. Cards: rule, settings published for it, what was read. D is a direction, c
 * a scalar, eta the rate, S the number of streams, s an adapter's scale.
 *
 * auto             The composition that the cards below lead to. A from activations (AGZO,
 *                  ZO-Act), B alone moves, S = 16 signs on shared data, c_i = (f_i - mean of the
 *                  others)/eps, divided by the slow mean of their standard deviation, clipped at 3
 *                  of them, a step of rho per element whatever loss and S are: B += -rho/sqrt(S)
 *                  sum c_i D_i. With a frozen 4- or 8-bit base the basis is taken once; zo-refresh
 *                  with float weights. Rate constant, over the last fifth of the run to 0 (the
 *                  schedule of the run); eps 1e-2 where the forward pass is of 16 or 8 bits.
 *                  Leave-one-out: LOREN (summary); the rest: here.
 * mezo             arXiv:2305.17333, code. c = (f(+eps D) - f(-eps D))/(2 eps), w -= eta c D,
 *                  normals, S = 1. For adapters: rank 8, alpha 16 on q and v, eta 1e-4 or 5e-5,
 *                  eps 1e-2, batch 16, 20,000 steps, constant rate. Ours never mutates the weights
 *                  to look.
 * mezo-full        The same over whole matrices and gains: eta 1e-6 or 1e-7, eps 1e-3. Needs
 *                  weights as floats; each probe costs about a product more, and cannot share
 *                  packed weights. The reference, not a recommendation.
 * mezo-lora-split  MeZO as the first AutoANE ran it (its source): signs, A, B and all gains, eta
 *                  1e-4, eps 1e-3, the adapter as a term of its own beside the constant base.
 * lora-fa          MeZO with A frozen (LoRA-FA's idea). B = 0 gives A no gradient at first anyway;
 *                  half the elements. A orthonormal here.
 * fzoo             arXiv:2506.09034, paper and code. c_i = f_i - f_0 with signs, divided by the
 *                  standard deviation of the f_i, mean over N. Code and paper differ by a factor
 *                  of eps; this is the code's form, to which its rates belong: N 8, eta 1e-5, eps
 *                  1e-3 (OPT-13B: 5e-5, 1e-4), batch 16. In the code the population deviation, as
 *                  here. Without the division it is plain SPSA: that is what the first AutoANE
 *                  tried.
 * mobizo           arXiv:2409.15520 (P-RGE), summary. q directions of B on a shared batch of E/q,
 *                  both sides, raw mean; rank 16, alpha 32, E 16, q 1, 4 or 16. Its rate was not
 *                  read: that of mezo.
 * grzo             arXiv:2606.02857, code's report. Sequence i has its own D_i; c_i two-sided,
 *                  divided by their deviation; batch 16, eps 1e-3, 20,000 steps. Theirs divides by
 *                  2 eps once more, so eta there = zo-lr * 2 eps here; its value was not read,
 *                  zo-rho stands. With adapters no flipout is needed. Fewer than 8 streams make
 *                  the deviation a guess.
 * agzo             arXiv:2601.17261, paper and summary. A = top directions of the layer's input,
 *                  taken anew each step by 3 power iterations; W -= eta c R A, R normal, one-sided
 *                  with the base loss; rank 1; other tensors normal; eps 1e-4 in bf16 (1e-7 in
 *                  fp32, which single precision losses do not carry far: 1e-4 here). Rate not
 *                  read: 1e-6.
 * zo-act           arXiv:2607.01125, summary. Such a basis once, then B alone by Adam over several
 *                  one-sided queries; rank 1 best; low-bit base. Their number of queries and rate
 *                  were not read: 32, 1e-3 (Adam over few queries is refused, see below).
 * qzo              arXiv:2505.13430, paper and part of the code. Integers frozen; the scales move:
 *                  two sides, normals, c clipped to 100, scale = max(scale - eta c z, 0). Here one
 *                  factor per output row, which starts at 1, on top of the file's scales. Rate not
 *                  read: 1e-6.
 * lozo             arXiv:2410.07698, code. W + eps U V^T, U fresh, V kept for nu steps, then
 *                  merged: here B moves over a random A with entries around 1. Rank 1 or 2, nu 50
 *                  or 100, eps 1e-3, eta 1e-6 or 1e-7, batch 16; the paper's 1/r, which its code
 *                  leaves out, is left out. The code draws other directions in a refresh step than
 *                  it probed; not so here.
 * subzero+         arXiv:2608.15665 (SubZero+; SubZero is 2410.08989), paper. U Z V^T with U, V
 *                  orthonormal, scaled by sqrt(m n)/r, K one-sided queries in one subspace,
 *                  averaged, Adam (0.9, 0.95) on the r x r core; K 99, refreshed every 50 to 100
 *                  steps, eta 1e-3 to 1e-2 (adapters 5e-3 to 5e-2), eps 1e-3. K <= 10 fails in
 *                  their own table.
 * zo-muon          arXiv:2602.17155, code. P orthonormal [out,r], anew every 100 steps; ghat =
 *                  mean c_i Psi_i, one-sided; W -= eta P msign(ghat) by 5 Newton-Schulz steps
 *                  (3.4445, -4.7750, 2.0315). r 64, 4 queries, eta 1e-2, eps 1e-3, 8000 steps.
 *                  Fewer queries than r leave msign nothing but noise to equalise, so S is 16 here
 *                  and must be at least the rank.
 * elasticzo        ZO below, backpropagation in the last blocks (summary). Give zo-hybrid-layer.
 * addax            arXiv:2410.06441, summary. w -= eta (alpha c D + (1 - alpha) g1), g1 by
 *                  backpropagation on short sequences: which those are is the objective's affair.
 * hizoo            arXiv:2402.15173, code; two public variants differ. Three losses, probes scaled
 *                  by H^-1/2, w -= eta c z/sqrt(H), then H = (1-a) H + a |f+ + f- - 2 f0|/(2
 *                  eps^2) H z^2. Adapters: eta 1e-5, eps 1e-2, a 1e-6; whole: 1e-6, 1e-3, 1e-10.
 *                  Normals only.
 * sparse-mezo      arXiv:2402.15751, paper. D masked to |w| <= a percentile of its matrix, found
 *                  in the beginning, the mask from the present weights each step; sparsity 0.5 to
 *                  0.8. Whole matrices: adapters that start at 0 have no magnitudes. The mask
 *                  takes a float per weight here.
 * p-gap            arXiv:2510.18228, by a port of it. Every k = 100 steps h = 10 two-sided normal
 *                  probes give G = mean c_i z_i per matrix, in its top-r basis S = U^T G V; each
 *                  step the core's normal Z0 becomes Z0 - S (<S,Z0> - sqrt(delta) |S|)/|S|^2,
 *                  delta falling from 2 to 0 over zo-horizon steps; then MeZO. (Their xi = +-1
 *                  changes nothing in a two-sided step.) eps 0.1 and eta 1e-2 diverged in the
 *                  port; MeZO's stand here.
 */
#include <string.h>
#include "base/memory.h"
#include "zo/zo_int.h"

const aa_opt aa_zo_rows[] = {
#define OPT(key, type, field, init, lo, hi, scale, choices, help)                             \
    {key, "zeroth order", AA_OPT_##type, offsetof(aa_zo_config, field), init, lo, hi,         \
     AA_SCALE_##scale, choices, help},
#include "zo/options.def"
    {0}};

#define MEZO "law=normal streams=1 estimator=two-sided combiner=raw clip=0 rho=0 "

/* In the order of zo-method's choices. Keys are without "zo-". */
static const struct method { const char *name, *settings; } methods[] = {
    {"auto", ""},
    {"mezo", MEZO "space=adapter basis=kept eps=1e-2 lr=1e-4"},
    {"mezo-full", MEZO "space=whole basis=kept norms=yes eps=1e-3 lr=1e-6 guard=0"},
    {"mezo-lora-split", MEZO "law=signs space=adapter basis=kept norms=yes eps=1e-3 lr=1e-4"},
    {"lora-fa", MEZO "space=b basis=random eps=1e-2 lr=1e-4"},
    {"fzoo", "space=adapter basis=kept streams=8 estimator=base combiner=std clip=0 rho=0 lr=1e-5"},
    {"mobizo", MEZO "space=b basis=random streams=4 eps=1e-2 lr=1e-4"},
    {"grzo", "space=adapter basis=kept data=own estimator=two-sided combiner=std clip=0"},
    {"agzo", MEZO "space=b refresh=1 norms=yes estimator=base eps=1e-4 lr=1e-6 guard=0"},
    {"zo-act", MEZO "space=b streams=32 estimator=base update=adam lr=1e-3"},
    {"qzo", MEZO "space=scale basis=kept eps=1e-3 clip=100 lr=1e-6"},
    {"lozo", MEZO "space=b basis=random basis-size=entries refresh=50 eps=1e-3 lr=1e-6 guard=0"},
    {"subzero+", MEZO "space=core basis=random basis-size=core refresh=50 streams=99 "
                      "estimator=base update=adam eps=1e-3 lr=1e-3 guard=0"},
    {"zo-muon", MEZO "space=a basis=random refresh=100 streams=16 estimator=base update=muon "
                "eps=1e-3 lr=1e-2 guard=0"},
    {"elasticzo", MEZO "space=adapter basis=kept hybrid=elastic eps=1e-2 lr=1e-4"},
    {"addax", MEZO "space=adapter basis=kept hybrid=addax eps=1e-2 lr=1e-4"},
    {"hizoo", MEZO "space=adapter basis=kept estimator=curved mask=curvature eps=1e-2 lr=1e-5"},
    {"sparse-mezo", MEZO "space=whole basis=kept mask=small eps=1e-3 lr=1e-6 guard=0"},
    {"p-gap", MEZO "space=core basis=gradient refresh=100 eps=1e-3 lr=1e-4 guard=0"},
};
enum { N_METHODS = sizeof methods / sizeof *methods };

/* ---- from a method to settings --------------------------------------------------------------- */

/* "key=value key=value": each set with the given origin. A later one wins. */
static void set_all(aa_opts *o, const char *settings, aa_opt_origin from, const char *where,
                    aa_text *problems) {
    char key[48], value[48];
    for (const char *s = settings; *s;) {
        size_t n = strcspn(s, " "), k = strcspn(s, "= ");
        if (n) {
            aa_text_clear(problems);
            if (k == n || k + 4 > sizeof key || n - k > sizeof value) {
                aa_text_printf(problems, "%s: '%.60s' is no key=value\n", where, s);
                return;
            }
            memcpy(key, "zo-", 3);
            memcpy(key + 3, s, k), key[3 + k] = 0;
            memcpy(value, s + k + 1, n - k - 1), value[n - k - 1] = 0;
            if (!aa_opts_set(o, key, value, from, where, problems)) return;
        }
        s += n + (s[n] == ' ');
    }
}

static aa_status reported(aa_text *problems, aa_err *err) {
    aa_status st = aa_text_status(problems, err);
    if (!st && problems->len)
        st = aa_fail(err, AA_EUSAGE, "%.*s", (int)problems->len - 1, problems->data);
    aa_text_release(problems);
    return st;
}

static size_t config_at(const aa_opts *o) {
    const aa_opt *row = o->rows;
    while (strcmp(row->key, "zo-method") != 0) {
        row++;
        aa_assert(row->key != NULL);
    }
    return row->at - offsetof(aa_zo_config, method);
}

aa_status aa_zo_settle(aa_opts *o, aa_err *err) {
    const aa_zo_config *c = (const void *)((const char *)o->values + config_at(o));
    aa_text problems = {0};
    aa_assert(c->method >= 0 && c->method < N_METHODS);
    set_all(o, methods[c->method].settings, AA_FROM_DEFAULT, methods[c->method].name, &problems);
    AA_TRY(reported(&problems, err));
    return aa_zo_config_check(c, err);
}

aa_status aa_zo_configure(aa_zo_config *out, const char *name, const char *settings, aa_err *err) {
    aa_zo_config c;
    aa_opts o;
    aa_text problems = {0};
    AA_TRY(aa_opts_init(&o, aa_zo_rows, &c, err));
    if (aa_opts_set(&o, "zo-method", name, AA_FROM_COMMAND, "method", &problems))
        set_all(&o, settings ? settings : "", AA_FROM_COMMAND, "settings", &problems);
    aa_status st = reported(&problems, err);
    if (!st) st = aa_zo_settle(&o, err);
    aa_opts_release(&o);
    if (!st) *out = c;
    return st;
}

/* ---- settings as text, for the ledger -------------------------------------------------------- */

void aa__zo_config_write(const aa_zo_config *c, aa_text *out) {
    aa_zo_config copy = *c;
    aa_opts_write_json(&(aa_opts){.rows = aa_zo_rows, .values = &copy}, out);
}

aa_status aa__zo_config_read(aa_zo_config *out, const char *text, size_t n, const char *name,
                             aa_err *err) {
    aa_zo_config c;
    aa_opts o;
    AA_TRY(aa_opts_init(&o, aa_zo_rows, &c, err));
    aa_status st = aa_opts_read_json(&o, text, n, name, err);
    aa_opts_release(&o);
    AA_TRY(st);
    AA_TRY(aa_zo_config_check(&c, err));
    *out = c;
    return AA_OK;
}

/* ---- what cannot work ------------------------------------------------------------------------ */

typedef struct rule { bool broken; const char *reason; } rule;

static aa_status refuse(const rule *rules, size_t n, const aa_zo_config *c, aa_err *err) {
    for (size_t i = 0; i < n; i++)
        if (rules[i].broken)
            return aa_fail(err, AA_EUSAGE, "zeroth-order method '%s': %s", methods[c->method].name,
                           rules[i].reason);
    return AA_OK;
}

static aa_status check_estimate(const aa_zo_config *c, aa_err *err) {
    const bool own = c->data == AA_ZO_OWN, raw = c->combiner == AA_ZO_RAW;
    const rule rules[] = {
        {c->estimator == AA_ZO_LOO && own,
         "zo-estimator loo needs directions that share data: the mean of losses on other data "
         "would mix the noise of data into every scalar; use two-sided with zo-data own"},
        {c->estimator == AA_ZO_BASE && own,
         "zo-estimator base has one base loss per group, for the data that its directions share; "
         "use two-sided with zo-data own"},
        {c->estimator == AA_ZO_CURVED && own,
         "zo-estimator curved has one base loss per group; use zo-data shared"},
        {c->estimator == AA_ZO_LOO && c->streams < 2,
         "zo-estimator loo compares directions with each other: zo-streams must be 2 or more"},
        {c->combiner == AA_ZO_STD && c->streams < 4,
         "the standard deviation of fewer than 4 scalars is noise: use zo-combiner ema-std, or 4 "
         "or more zo-streams"},
        {c->combiner == AA_ZO_EMA && c->streams < 2,
         "one scalar has no standard deviation: use zo-combiner raw, or 2 or more zo-streams"},
        {raw && c->rho > 0,
         "zo-rho counts in standard deviations of the scalars: give zo-lr with zo-combiner raw"},
        {c->rho <= 0 && c->lr <= 0, "neither zo-rho nor zo-lr is set"},
        {c->groups * c->streams > 65535, "more than 65535 directions per step"},
        {c->pool > 0 && c->pool < c->groups * c->streams,
         "zo-pool is smaller than the number of directions in a step"},
    };
    return refuse(rules, sizeof rules / sizeof *rules, c, err);
}

static aa_status check_space(const aa_zo_config *c, aa_err *err) {
    const bool kept = c->basis == AA_ZO_KEPT, adapter = c->space == AA_ZO_ADAPTER,
               one = c->space == AA_ZO_B || c->space == AA_ZO_A || c->space == AA_ZO_CORE;
    const rule rules[] = {
        {!one && !kept, "a basis is for factors that stand still: zo-space b, a or core"},
        {c->refresh > 0 && (kept || !one), "zo-refresh takes new bases, and there are none"},
        {c->space == AA_ZO_A && c->basis == AA_ZO_ACTIVATION,
         "activations span what A reads, so they are a basis for zo-space b"},
        {c->basis == AA_ZO_GRADIENT && c->space != AA_ZO_CORE,
         "zo-basis gradient gives both factors: it needs zo-space core"},
        {c->basis == AA_ZO_GRADIENT && c->law != AA_LAW_NORMAL,
         "zo-basis gradient turns directions, which keeps normals normal but not signs"},
        {c->basis == AA_ZO_GRADIENT && c->horizon <= 0,
         "its schedule ends with the run: give zo-horizon"},
        {c->mask == AA_ZO_SMALL && c->space != AA_ZO_WHOLE,
         "a mask by magnitude is for whole matrices: adapters begin at 0, so that it would keep "
         "all of B and the small part of a random A"},
        {(c->mask == AA_ZO_CURVATURE) != (c->estimator == AA_ZO_CURVED),
         "zo-mask curvature is made of what zo-estimator curved measures: use both or none"},
        {c->mask == AA_ZO_CURVATURE && c->law == AA_LAW_SIGNS,
         "squares of signs are 1 and tell no curvature apart: use zo-law normal"},
        {adapter && c->update == AA_ZO_MUON, "zo-update muon is for zo-space a"},
    };
    return refuse(rules, sizeof rules / sizeof *rules, c, err);
}

static aa_status check_update(const aa_zo_config *c, aa_err *err) {
    const bool elastic = c->hybrid == AA_ZO_ELASTIC;
    const rule rules[] = {
        {c->update == AA_ZO_ADAM && c->groups * c->streams < 30,
         "zo-update adam divides each element by its own size, which is noise below 30 directions "
         "per step; use sgd or momentum, or more zo-streams"},
        {c->update == AA_ZO_MUON && c->space != AA_ZO_A, "zo-update muon is for zo-space a"},
        {elastic && c->hybrid_layer < 1,
         "give zo-hybrid-layer: the first block that backpropagation has"},
        {elastic && c->hybrid_layer <= c->first_layer,
         "no block is left between zo-first-layer and zo-hybrid-layer"},
        {c->pool > 0 && c->update != AA_ZO_SGD,
         "a pool of directions is for sums of scalars, which momentum and Adam are not made of"},
        {c->mask == AA_ZO_CURVATURE && c->pool > 0,
         "the curvature changes the directions, so a pool of them has no sums"},
    };
    return refuse(rules, sizeof rules / sizeof *rules, c, err);
}

aa_status aa_zo_config_check(const aa_zo_config *c, aa_err *err) {
    AA_TRY(check_estimate(c, err));
    AA_TRY(check_space(c, err));
    return check_update(c, err);
}

const char *aa__zo_method_name(const aa_zo_config *c) { return methods[c->method].name; }

size_t aa_zo_probes(const aa_zo_config *c) {
    size_t S = (size_t)c->streams, groups = (size_t)c->groups;
    switch ((aa_zo_estimator)c->estimator) {
    case AA_ZO_TWO_SIDED: return groups * 2 * S;
    case AA_ZO_BASE: return groups * (S + 1);
    case AA_ZO_LOO: return groups * S;
    default: return groups * (2 * S + 1);
    }
}
