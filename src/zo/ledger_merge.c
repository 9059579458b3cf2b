/* zo/ledger_merge: ledgers into a smaller one, or several into one.
 *
 * With plain sgd over bases that never change, what a run did to the weights is sum c D over all
 * its steps, in whatever order. So steps of a pool become one sum per direction, and what n clients
 * did from one start is averaged without any weights: sum_k w_k sum c D, w_k the client's share of
 * all measured directions, which are what its data was worth.
 */
#include <stdio.h>
#include <string.h>
#include "zo/zo_int.h"

enum { MOST_CLIENTS = 4096 };

typedef struct client {
    aa_ledger_reader reader;
    ledger_plan plan;
    aa_ledger_record record;              /* the present step or sums, where `more` */
    bool open, more;
    double weight;
} client;

typedef struct merge {
    client *clients; size_t n;
    double *sums;                         /* [pool], or NULL */
    uint64_t steps, last_step;
} merge;

static aa_status check_commutes(const aa_ledger_reader *r, aa_err *err) {
    const aa_zo_config *c = &r->header.config;
    const char *what = c->update != AA_ZO_SGD         ? "its update is not plain sgd"
                       : c->refresh > 0               ? "its basis changes on the way"
                       : c->basis == AA_ZO_GRADIENT   ? "its directions depend on the step"
                       : c->mask != AA_ZO_NO_MASK     ? "its directions depend on the weights"
                       : c->space == AA_ZO_SCALE      ? "its scales are kept above 0 at each step"
                                                      : NULL;
    if (!what) return AA_OK;
    return aa_fail(err, AA_EUNSUPPORTED,
                   "'%s': the steps of method '%s' cannot be added up: %s", r->path,
                   aa__zo_method_name(c), what);
}

/* The next step or sums that count; bases are compared elsewhere. */
static aa_status advance(client *c, aa_err *err) {
    for (c->more = false; c->reader.n_read < c->plan.n_records;) {
        bool more = false;
        AA_TRY(aa_ledger_next(&c->reader, &c->record, &more, err));
        c->more = (c->record.kind == AA_LEDGER_STEP || c->record.kind == AA_LEDGER_POOL) &&
                  !aa__ledger_undone(&c->plan, &c->record);
        if (c->more) return AA_OK;
    }
    return AA_OK;
}

static aa_status next_basis(client *c, aa_ledger_record *out, bool *more, aa_err *err) {
    for (*more = false; c->reader.n_read < c->plan.n_records;) {
        AA_TRY(aa_ledger_next(&c->reader, out, more, err));
        *more = out->kind == AA_LEDGER_BASIS && !aa__ledger_undone(&c->plan, out);
        if (*more) return AA_OK;
    }
    return AA_OK;
}

static bool same_basis(const aa_ledger_record *a, const aa_ledger_record *b) {
    return a->basis.row == b->basis.row && a->basis.rank == b->basis.rank &&
           a->basis.n == b->basis.n &&
           !memcmp(a->basis.scale, b->basis.scale, a->basis.rank * sizeof(float)) &&
           !memcmp(a->basis.q, b->basis.q, (size_t)a->basis.rank * a->basis.n);
}

/* All clients have the same bases; the first one's go into the result. */
static aa_status copy_bases(merge *m, aa_ledger *out, aa_err *err) {
    for (;;) {
        aa_ledger_record first, other;
        bool more = false, also = false;
        AA_TRY(next_basis(&m->clients[0], &first, &more, err));
        for (size_t i = 1; i < m->n; i++) {
            AA_TRY(next_basis(&m->clients[i], &other, &also, err));
            if (also != more || (more && !same_basis(&first, &other)))
                return aa_fail(err, AA_EUSAGE,
                               "'%s' and '%s' have different bases; clients must begin with those "
                               "of one of them",
                               m->clients[0].reader.path, m->clients[i].reader.path);
        }
        if (!more) return AA_OK;
        AA_TRY(aa_ledger_write(out, &first, err));
    }
}

/* ---- opening --------------------------------------------------------------------------------- */

static aa_status same_run(const aa_ledger_header *a, const aa_ledger_header *b, const char *path_a,
                          const char *path_b, aa_err *err) {
    aa_zo_config x = a->config, y = b->config;
    aa_text tx = {0}, ty = {0};
    const char *what = NULL;
    x.client = y.client = 0;
    aa__zo_config_write(&x, &tx);
    aa__zo_config_write(&y, &ty);
    aa_status st = aa_text_status(&tx, err);
    if (!st) st = aa_text_status(&ty, err);
    if (!st && strcmp(tx.data, ty.data) != 0) what = "settings";
    if (!aa_digest_equal(a->base, b->base) || !aa_digest_equal(a->start, b->start)) what = "bases";
    if (!aa_digest_equal(a->space, b->space)) what = "parameters";
    aa_text_release(&tx);
    aa_text_release(&ty);
    AA_TRY(st);
    return what ? aa_fail(err, AA_EUSAGE, "'%s' and '%s' have different %s", path_a, path_b, what)
                : AA_OK;
}

static aa_status open_client(merge *m, size_t i, const char *path, aa_err *err) {
    client *c = &m->clients[i];
    AA_TRY(aa_ledger_open(&c->reader, path, err));
    c->open = true;
    AA_TRY(check_commutes(&c->reader, err));
    for (size_t k = 0; k < i; k++) {
        const aa_ledger_reader *other = &m->clients[k].reader;
        AA_TRY(same_run(&other->header, &c->reader.header, other->path, path, err));
        if (other->header.config.client == c->reader.header.config.client)
            return aa_fail(err, AA_EUSAGE,
                           "'%s' and '%s' are both of client %lld and used the same directions: "
                           "give each run its own --zo-client",
                           other->path, path, (long long)c->reader.header.config.client);
    }
    AA_TRY(aa__ledger_plan(&c->reader, &c->plan, err));
    aa_ledger_rewind(&c->reader);
    const uint64_t total = (uint64_t)(c->reader.header.config.streams *
                                      c->reader.header.config.groups),
                   pool = (uint64_t)c->reader.header.config.pool;
    AA_TRY(advance(c, err));
    while (c->more) {
        const aa_ledger_record *r = &c->record;
        const bool sums = r->kind == AA_LEDGER_POOL;
        if (sums ? r->pool.n != pool || !pool : r->step_of.n != total)
            return aa_fail(err, AA_EFORMAT,
                           "'%s': record %u has not the directions of its settings", path,
                           r->index);
        c->weight += sums ? (double)r->pool.steps * (double)total : (double)r->step_of.present;
        AA_TRY(advance(c, err));
    }
    aa_ledger_rewind(&c->reader);
    return AA_OK;
}

/* ---- sums and steps -------------------------------------------------------------------------- */

static void add_sums(merge *m, const client *c) {
    const aa_ledger_record *r = &c->record;
    const aa_zo_config *config = &c->reader.header.config;
    if (r->kind == AA_LEDGER_POOL) {
        for (uint64_t i = 0; i < r->pool.n; i++) m->sums[i] += c->weight * r->pool.sums[i];
        m->steps += r->pool.steps;
        return;
    }
    for (uint32_t i = 0; i < r->step_of.n; i++)
        m->sums[aa__zo_pool_at(config, r->step, r->step_of.first_stream, i)] +=
            c->weight * (double)r->step_of.scalars[i];
    m->steps++;
}

static aa_status pool_all(merge *m, aa_ledger *out, aa_err *err) {
    const size_t pool = (size_t)m->clients[0].reader.header.config.pool;
    m->sums = aa_heap_alloc(pool, sizeof *m->sums);
    if (!m->sums) return aa_fail_memory(err, "the sums of a pool", pool * sizeof *m->sums);
    for (size_t i = 0; i < m->n; i++) {
        client *c = &m->clients[i];
        AA_TRY(advance(c, err));
        while (c->more) {
            add_sums(m, c);
            if (c->record.step > m->last_step) m->last_step = c->record.step;
            AA_TRY(advance(c, err));
        }
    }
    aa_ledger_record r = {.kind = AA_LEDGER_POOL, .step = m->last_step};
    r.pool.n = pool, r.pool.steps = m->steps, r.pool.sums = m->sums;
    return aa_ledger_write(out, &r, err);
}

static client *earliest(merge *m) {
    client *first = NULL;
    for (size_t i = 0; i < m->n; i++) {
        client *c = &m->clients[i];
        if (c->more && (!first || c->record.step < first->record.step)) first = c;
    }
    return first;
}

static aa_status interleave(merge *m, aa_ledger *out, aa_err *err) {
    const aa_zo_config *config = &m->clients[0].reader.header.config;
    const size_t total = (size_t)(config->streams * config->groups);
    float *scaled = aa_heap_alloc(total, sizeof *scaled);
    if (!scaled) return aa_fail_memory(err, "a step", total * sizeof *scaled);
    aa_status st = AA_OK;
    for (size_t i = 0; !st && i < m->n; i++) st = advance(&m->clients[i], err);
    for (client *c; !st && (c = earliest(m)); ) {
        aa_ledger_record r = c->record;
        for (size_t i = 0; i < total; i++)
            scaled[i] = (float)(c->weight * (double)r.step_of.scalars[i]);
        r.step_of.scalars = scaled;
        r.step_of.n_scalars = (uint32_t)total;
        st = aa_ledger_write(out, &r, err);
        if (!st) st = advance(c, err);
    }
    aa_heap_free(scaled);
    return st;
}

static aa_status write_all(merge *m, const char *path, aa_err *err) {
    aa_ledger *out = NULL;
    aa_ledger_header h = m->clients[0].reader.header;
    h.config.client = 0;
    h.compacted = h.config.pool > 0;
    AA_TRY(aa_ledger_create(&out, path, &h, err));
    aa_status st = copy_bases(m, out, err);
    for (size_t i = 0; i < m->n; i++) aa_ledger_rewind(&m->clients[i].reader);
    if (!st) st = h.config.pool > 0 ? pool_all(m, out, err) : interleave(m, out, err);
    if (!st) st = aa_ledger_sync(out, err);
    aa_ledger_close(out);
    if (st) (void)remove(path);           /* half a ledger would look like a short run */
    return st;
}

aa_status aa_ledger_merge(const char *const *in, size_t n, const char *out, aa_err *err) {
    merge m = {.n = n};
    double weights = 0;
    if (!n || n > MOST_CLIENTS)
        return aa_fail(err, AA_EUSAGE, "%zu ledgers cannot be merged: 1 to %d can", n,
                       MOST_CLIENTS);
    m.clients = aa_heap_alloc(n, sizeof *m.clients);
    if (!m.clients) return aa_fail_memory(err, "the ledgers", n * sizeof *m.clients);
    aa_status st = AA_OK;
    for (size_t i = 0; !st && i < n; i++) st = open_client(&m, i, in[i], err);
    for (size_t i = 0; i < n; i++) weights += m.clients[i].weight;
    for (size_t i = 0; i < n && weights > 0; i++) m.clients[i].weight /= weights;
    if (!st) st = write_all(&m, out, err);
    for (size_t i = 0; i < n; i++)
        if (m.clients[i].open) aa_ledger_reader_close(&m.clients[i].reader);
    aa_heap_free(m.sums);
    aa_heap_free(m.clients);
    return st;
}

aa_status aa_ledger_compact(const char *in, const char *out, aa_err *err) {
    aa_ledger_reader r;
    AA_TRY(aa_ledger_open(&r, in, err));
    const int64_t pool = r.header.config.pool;
    aa_ledger_reader_close(&r);
    if (!pool)
        return aa_fail(err, AA_EUSAGE,
                       "'%s' has no pool of directions (--zo-pool): each of its scalars belongs to "
                       "a direction of its own, so there is nothing to add up",
                       in);
    return aa_ledger_merge(&in, 1, out, err);
}
