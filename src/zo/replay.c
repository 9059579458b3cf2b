/* zo/replay: a ledger and the base give the run's weights, bit by bit.
 *
 * A first reading finds damage and the end of what is whole; the second applies it, step by step,
 * through the very functions of a live run, with bases from the ledger in the place of the
 * objective's. Steps that were taken back later are taken, and taken back.
 */
#include <string.h>
#include "zo/zo_int.h"

aa_status aa__ledger_plan(aa_ledger_reader *r, ledger_plan *out, aa_err *err) {
    ledger_plan p = {.factor = 1, .good = r->at};
    aa_ledger_record record;
    bool more = false;
    AA_TRY(aa_ledger_next(r, &record, &more, err));
    while (more) {
        if (record.kind == AA_LEDGER_REWIND) {
            if (p.n_rewinds == LEDGER_REWINDS)
                return aa_fail(err, AA_EFORMAT, "'%s': more than %d rewinds", r->path,
                               LEDGER_REWINDS);
            p.rewinds[p.n_rewinds].index = record.index;
            p.rewinds[p.n_rewinds++].to = record.rewind.to;
            p.factor = record.rewind.factor;
        }
        if (record.kind == AA_LEDGER_STEP || record.kind == AA_LEDGER_REWIND) {
            if (record.step < p.next_step && !(record.step + 1 == p.next_step))
                return aa_fail(err, AA_EFORMAT, "'%s': record %u is of step %llu, after step %llu",
                               r->path, record.index, (unsigned long long)record.step,
                               (unsigned long long)p.next_step - 1);
            if (record.step >= UINT32_MAX)
                return aa_fail(err, AA_EFORMAT, "'%s': record %u is of step %llu", r->path,
                               record.index, (unsigned long long)record.step);
            p.next_step = record.step + 1;
        }
        if (record.kind != AA_LEDGER_BASIS && record.kind != AA_LEDGER_ESTIMATE) {
            p.good = r->at;
            p.n_records = r->n_read;
        }
        AA_TRY(aa_ledger_next(r, &record, &more, err));
    }
    *out = p;
    return AA_OK;
}

bool aa__ledger_undone(const ledger_plan *p, const aa_ledger_record *r) {
    for (size_t i = 0; i < p->n_rewinds; i++)
        if (p->rewinds[i].index > r->index && p->rewinds[i].to <= r->step) return true;
    return false;
}

/* ---- records --------------------------------------------------------------------------------- */

struct aa_zo_playback {
    aa_zo *z;
    aa_ledger_reader r;
    ledger_plan plan;
    aa_ledger_record *bases; size_t n_bases;               /* since the last step; [n_rows] */
    aa_ledger_record estimate; bool has_estimate;
    aa_zo_replayed done;
};

static aa_status wrong(const aa_zo_playback *p, const aa_ledger_record *r, aa_err *err,
                       const char *what) {
    return aa_fail(err, AA_EFORMAT, "'%s': record %u (step %llu) %s", p->r.path, r->index,
                   (unsigned long long)r->step, what);
}

/* What the run had asked of its objective for this step. */
static uint64_t forwards(const aa_zo_playback *p) {
    const aa_zo_config *c = &p->z->config;
    uint64_t probes = aa_zo_probes(c) / (uint64_t)c->groups * p->z->n_groups;
    if (p->has_estimate) probes += 2 * (uint64_t)c->estimate;
    return probes * p->z->objective->n_sequences;
}

static aa_status play_step(aa_zo_playback *p, const aa_ledger_record *r, aa_zo_report *out,
                           aa_err *err) {
    aa_zo *z = p->z;
    const aa_ledger_step *s = &r->step_of;
    const bool curved = z->config.estimator == AA_ZO_CURVED;
    zo_stored stored = {p->bases, p->n_bases, 0, p->has_estimate ? &p->estimate : NULL};
    if (s->n != z->total || s->n_scalars != s->n * (curved ? 2u : 1u))
        return wrong(p, r, err, "has not the number of scalars that its settings ask for");
    z->now.next_step = r->step;
    for (size_t i = 0; i < p->n_bases; i++)
        if (p->bases[i].step != r->step)
            return wrong(p, &p->bases[i], err, "is a basis of no step");
    AA_TRY(aa__zo_prepare(z, &stored, err));
    if (stored.next != p->n_bases) return wrong(p, r, err, "has bases that it does not take");
    *out = aa__zo_report(z, s);
    out->sequence_forwards = forwards(p);
    aa__zo_apply(z, s);
    aa__zo_owe_check(z);
    if (z->config.guard && z->now.next_step % (uint64_t)z->config.guard == 0) aa__zo_keep(z);
    p->n_bases = 0;
    p->has_estimate = false;
    p->done.steps++;
    return AA_OK;
}

static aa_status play_rewind(aa_zo_playback *p, const aa_ledger_record *r, aa_zo_report *out,
                             aa_err *err) {
    aa_zo *z = p->z;
    z->now.next_step = r->step;
    if (!z->config.guard || r->rewind.to != z->kept.next_step)
        return wrong(p, r, err, "goes back to a state that was not kept");
    *out = aa__zo_report(z, NULL);
    out->sequence_forwards = forwards(p);
    out->new_basis = p->n_bases > 0;
    aa__zo_go_back(z);
    z->owes_check = false;
    z->now.next_step++;
    z->backoff = r->rewind.factor;
    z->n_backoffs++;
    p->n_bases = 0;
    p->has_estimate = false;
    return AA_OK;
}

static aa_status play_pool(aa_zo_playback *p, const aa_ledger_record *r, aa_err *err) {
    aa_zo *z = p->z;
    zo_stored stored = {p->bases, p->n_bases, 0, NULL};
    if (r->pool.n != (uint64_t)z->config.pool)
        return wrong(p, r, err, "has not as many sums as its pool has directions");
    z->now.next_step = 0;
    AA_TRY(aa__zo_prepare(z, &stored, err));
    AA_TRY(aa__zo_apply_pool(z, r->pool.sums, r->pool.n, err));
    p->n_bases = 0;
    p->done.steps += r->pool.steps;
    return AA_OK;
}

static aa_status play(aa_zo_playback *p, const aa_ledger_record *r, aa_zo_report *out,
                      aa_err *err) {
    switch (r->kind) {
    case AA_LEDGER_STEP: return play_step(p, r, out, err);
    case AA_LEDGER_REWIND: return play_rewind(p, r, out, err);
    case AA_LEDGER_POOL: return play_pool(p, r, err);
    case AA_LEDGER_BASIS:
        if (p->n_bases == p->z->space->n_rows) return wrong(p, r, err, "is one basis too many");
        p->bases[p->n_bases++] = *r;
        return AA_OK;
    case AA_LEDGER_ESTIMATE:
        p->estimate = *r;
        p->has_estimate = true;
        return AA_OK;
    case AA_LEDGER_CHECK:
        p->done.checks++;
        p->z->owes_check = false;
        if (aa_digest_equal(r->check, aa_zo_digest(p->z))) return AA_OK;
        return aa_fail(err, AA_ECORRUPT,
                       "'%s': record %u: after step %llu the weights are not those of the run",
                       p->r.path, r->index, (unsigned long long)r->step);
    }
    return AA_OK;
}

/* ---- a whole ledger -------------------------------------------------------------------------- */

static aa_status check_base(const aa_digest *base, const aa_ledger_reader *r, aa_err *err) {
    char ours[AA_DIGEST_HEX], theirs[AA_DIGEST_HEX];
    if (!base || aa_digest_equal(*base, r->header.base)) return AA_OK;
    aa_digest_hex(*base, ours);
    aa_digest_hex(r->header.base, theirs);
    return aa_fail(err, AA_EUSAGE,
                   "'%s' belongs to another base: its digest is %s, that of this one %s", r->path,
                   theirs, ours);
}

static aa_status check_match(const aa_zo *z, const aa_ledger_reader *r, aa_err *err) {
    const aa_ledger_header have = aa_ledger_header_of(z, r->header.base);
    aa_text ours = {0}, theirs = {0};
    aa__zo_config_write(&z->config, &ours);
    aa__zo_config_write(&r->header.config, &theirs);
    aa_status st = aa_text_status(&ours, err);
    if (!st) st = aa_text_status(&theirs, err);
    const bool same = !st && !strcmp(ours.data, theirs.data);
    aa_text_release(&ours);
    aa_text_release(&theirs);
    AA_TRY(st);
    if (!same)
        return aa_fail(err, AA_EUSAGE, "'%s' was written with other settings of zeroth order",
                       r->path);
    if (!aa_digest_equal(have.space, r->header.space))
        return aa_fail(err, AA_EUSAGE,
                       "'%s' belongs to other parameters: names or shapes of the adapters differ",
                       r->path);
    if (!aa_digest_equal(have.start, r->header.start))
        return aa_fail(err, AA_EUSAGE,
                       "'%s' began from another base: the digest of its parameters differs",
                       r->path);
    return AA_OK;
}

aa_status aa_zo_playback_open(aa_zo_playback **out, aa_zo *z, const char *path,
                              const aa_digest *base, bool torn, aa_err *err) {
    aa_zo_playback *p = aa_heap_alloc(1, sizeof *p);
    if (!p) return aa_fail_memory(err, "a replay", sizeof *p);
    aa_assert(!z->ledger && z->now.updates == 0);
    p->z = z;
    p->bases = aa_heap_alloc(z->space->n_rows, sizeof *p->bases);
    aa_status st = p->bases ? aa_ledger_open(&p->r, path, err)
                            : aa_fail_memory(err, "a replay", z->space->n_rows * sizeof *p->bases);
    if (st) {
        aa_heap_free(p->bases);
        aa_heap_free(p);
        return st;
    }
    p->r.forgive_torn = torn;
    st = check_base(base, &p->r, err);
    if (!st) st = check_match(z, &p->r, err);
    if (!st) st = aa__ledger_plan(&p->r, &p->plan, err);
    if (st) {
        aa_zo_playback_close(p);
        return st;
    }
    p->done.torn_bytes = p->r.torn_bytes;
    aa_ledger_rewind(&p->r);
    aa__zo_keep(z);
    *out = p;
    return AA_OK;
}

void aa_zo_playback_close(aa_zo_playback *p) {
    if (!p) return;
    aa_ledger_reader_close(&p->r);
    aa_heap_free(p->bases);
    aa_heap_free(p);
}

uint64_t aa_zo_playback_good(const aa_zo_playback *p) { return p->plan.good; }

bool aa_zo_playback_more(const aa_zo_playback *p) { return p->r.n_read < p->plan.n_records; }

/* A check belongs to the step before it. */
static aa_status play_checks(aa_zo_playback *p, aa_err *err) {
    aa_ledger_record record;
    bool more = true;
    while (aa_zo_playback_more(p) && aa__ledger_peek(&p->r) == AA_LEDGER_CHECK) {
        AA_TRY(aa_ledger_next(&p->r, &record, &more, err));
        p->done.records++;
        AA_TRY(play(p, &record, NULL, err));
    }
    return AA_OK;
}

aa_status aa_zo_playback_step(aa_zo_playback *p, double factor, aa_zo_report *out, aa_err *err) {
    aa_ledger_record record = {0};
    bool more = true;
    *out = (aa_zo_report){0};
    do {
        AA_TRY(aa_ledger_next(&p->r, &record, &more, err));
        p->done.records++;
        AA_TRY(play(p, &record, out, err));
    } while (record.kind != AA_LEDGER_STEP && record.kind != AA_LEDGER_REWIND &&
             aa_zo_playback_more(p));
    out->rate = out->rewound ? 0 : aa__zo_shown_rate(p->z, factor);
    return play_checks(p, err);
}

static aa_status replay(aa_zo *z, const char *path, const aa_digest *base, uint64_t *at,
                        aa_zo_replayed *out, aa_err *err) {
    aa_zo_playback *p;
    aa_zo_report report;
    AA_TRY(aa_zo_playback_open(&p, z, path, base, at != NULL, err));
    aa_status st = AA_OK;
    while (!st && aa_zo_playback_more(p)) st = aa_zo_playback_step(p, 1, &report, err);
    if (!st) z->now.next_step = p->plan.next_step;
    if (!st && at) *at = p->plan.good;
    if (!st && out) *out = p->done;
    aa_zo_playback_close(p);
    return st;
}

aa_status aa_zo_replay(aa_zo *z, const char *path, const aa_digest *base, aa_zo_replayed *out,
                       aa_err *err) {
    return replay(z, path, base, NULL, out, err);
}

aa_status aa_zo_resume(aa_zo *z, const char *path, const aa_digest *base, uint64_t *at,
                       aa_zo_replayed *out, aa_err *err) {
    return replay(z, path, base, at, out, err);
}
