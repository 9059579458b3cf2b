/* zo/ledger: see ledger.h for the layout. Sizes in a file are believed only after they were
 * compared with each other and with the size of the file. */
#include "zo/ledger.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "zo/zo_int.h"

enum { VERSION = 1, MOST_TEXT = 1 << 16 };
#define MAGIC "AALEDGER"
#define RECORD_MAGIC 0x3152415au          /* "ZAR1" */

typedef struct header {
    char magic[8];
    uint32_t version, size;               /* size: of all of it, with text and checksum */
    aa_digest base, start, space;
    uint64_t seed;
    uint32_t generator, compacted, text, about;
} header;                                 /* then text and about, each with zeros to a multiple of
                                           * 8, u64 checksum */
_Static_assert(sizeof(header) == 88, "the layout of a ledger's header");

typedef struct frame {
    uint32_t magic;
    uint16_t kind, zero;
    uint32_t index, size;                 /* size: of what follows the frame */
    uint64_t step, checksum;
} frame;
_Static_assert(sizeof(frame) == 32, "the layout of a ledger's record");

#define STEP_BYTES offsetof(aa_ledger_step, scalars)
_Static_assert(STEP_BYTES == 48, "the layout of a ledger's step");

static size_t padded(size_t n) { return (n + 7) / 8 * 8; }

static uint64_t checksum(uint64_t salt, const frame *f, const void *payload) {
    struct { uint64_t salt; frame f; aa_digest payload; } all = {salt, *f, {0, 0}};
    all.f.checksum = 0;
    all.payload = aa_digest_bytes(payload, f->size);
    return aa_digest_bytes(&all, sizeof all).lo;
}

/* ---- writing --------------------------------------------------------------------------------- */

struct aa_ledger {
    char *path;
    FILE *file;
    aa_text buffer;                       /* of one record */
    uint64_t salt, size_bytes;
    uint32_t n_records;
};

void aa_ledger_close(aa_ledger *l) {
    if (!l) return;
    if (l->file) fclose(l->file);
    aa_text_release(&l->buffer);
    aa_heap_free(l->path);
    aa_heap_free(l);
}

uint64_t aa_ledger_size(const aa_ledger *l) { return l->size_bytes; }

static void pad(aa_text *t, size_t n) { aa_text_add_bytes(t, "\0\0\0\0\0\0\0", padded(n) - n); }

static aa_status put(aa_ledger *l, aa_err *err) {
    AA_TRY(aa_text_status(&l->buffer, err));
    if (fwrite(l->buffer.data, 1, l->buffer.len, l->file) != l->buffer.len || fflush(l->file))
        return aa_fail_errno(err, errno, "cannot write the ledger", l->path);
    l->size_bytes += l->buffer.len;
    return AA_OK;
}

/* The heads of a record and of what is in it. */
aa_status aa__ledger_reserve(aa_ledger *l, size_t size, aa_err *err) {
    char *room = aa_heap_alloc(size + 256, 1);
    if (!room) return aa_fail_memory(err, "a record of the ledger", size);
    aa_text_clear(&l->buffer);
    aa_text_add_bytes(&l->buffer, room, size + 256);
    aa_heap_free(room);
    AA_TRY(aa_text_status(&l->buffer, err));
    aa_text_clear(&l->buffer);
    return AA_OK;
}

static aa_status new_ledger(aa_ledger **out, const char *path, aa_err *err) {
    aa_ledger *l = aa_heap_alloc(1, sizeof *l);
    if (!l || !(l->path = aa_heap_strdup(path))) {
        aa_ledger_close(l);
        return aa_fail_memory(err, "the ledger", sizeof *l);
    }
    *out = l;
    return AA_OK;
}

static void add_header(aa_text *out, const aa_ledger_header *h) {
    aa_text text = {0};
    header raw = {.version = VERSION, .base = h->base, .start = h->start, .space = h->space,
                  .seed = h->seed, .generator = h->generator, .compacted = h->compacted};
    aa__zo_config_write(&h->config, &text);
    memcpy(raw.magic, MAGIC, 8);
    raw.text = (uint32_t)text.len;
    raw.about = (uint32_t)h->n_about;
    raw.size = (uint32_t)(sizeof raw + padded(text.len) + padded(h->n_about) + 8);
    aa_text_add_bytes(out, &raw, sizeof raw);
    aa_text_add_bytes(out, text.data ? text.data : "", text.len);
    pad(out, text.len);
    aa_text_add_bytes(out, h->about ? h->about : "", h->n_about);
    pad(out, h->n_about);
    if (text.failed) out->failed = true;
    uint64_t sum = out->failed ? 0 : aa_digest_bytes(out->data, out->len).lo;
    aa_text_add_bytes(out, &sum, sizeof sum);
    aa_text_release(&text);
}

aa_status aa_ledger_create(aa_ledger **out, const char *path, const aa_ledger_header *h,
                           aa_err *err) {
    aa_ledger *l = NULL;
    aa_sys_info info;
    if (h->config.hybrid != AA_ZO_ALONE)
        return aa_fail(err, AA_EUNSUPPORTED,
                       "method '%s' has no ledger: gradients by backpropagation are in no record; "
                       "keep checkpoints",
                       aa__zo_method_name(&h->config));
    if (!aa_sys_stat(&info, path) && info.kind != AA_SYS_ABSENT)
        return aa_fail(err, AA_EUSAGE, "'%s' is there already; a ledger is never written over",
                       path);
    aa_assert(h->n_about <= MOST_TEXT);
    AA_TRY(new_ledger(&l, path, err));
    l->file = fopen(path, "wb");
    aa_status st = l->file ? AA_OK : aa_fail_errno(err, errno, "cannot create", path);
    if (!st) {
        add_header(&l->buffer, h);
        l->salt = aa_digest_bytes(l->buffer.data, l->buffer.len).lo;
        st = put(l, err);
    }
    if (st) aa_ledger_close(l);
    else *out = l;
    return st;
}

aa_status aa_ledger_append(aa_ledger **out, const char *path, uint64_t at, aa_err *err) {
    aa_ledger_reader r;
    aa_ledger_record record;
    aa_ledger *l = NULL;
    bool more = true;
    AA_TRY(aa_ledger_open(&r, path, err));
    r.forgive_torn = true;
    aa_status st = AA_OK;
    while (!st && more && r.at < at) st = aa_ledger_next(&r, &record, &more, err);
    if (!st && r.at != at)
        st = aa_fail(err, AA_EINTERNAL, "'%s': no record ends at byte %llu", path,
                     (unsigned long long)at);
    const uint64_t salt = r.salt, size = r.map.size_bytes;
    const uint32_t n = r.n_read;
    aa_ledger_reader_close(&r);
    AA_TRY(st);
    int no = size > at ? aa_sys_truncate(path, at) : 0;
    if (no) return aa_fail_errno(err, no, "cannot cut", path);
    AA_TRY(new_ledger(&l, path, err));
    l->file = fopen(path, "ab");
    l->salt = salt, l->n_records = n, l->size_bytes = at;
    if (!l->file) {
        st = aa_fail_errno(err, errno, "cannot append to", path);
        aa_ledger_close(l);
        return st;
    }
    *out = l;
    return AA_OK;
}

static void add_payload(aa_text *t, const aa_ledger_record *r) {
    switch (r->kind) {
    case AA_LEDGER_STEP:
        aa_text_add_bytes(t, &r->step_of, STEP_BYTES);
        aa_text_add_bytes(t, r->step_of.scalars, r->step_of.n_scalars * sizeof(float));
        break;
    case AA_LEDGER_BASIS: {
        const uint32_t head[4] = {r->basis.row, r->basis.rank, r->basis.n, 0};
        aa_text_add_bytes(t, head, sizeof head);
        aa_text_add_bytes(t, r->basis.scale, r->basis.rank * sizeof(float));
        aa_text_add_bytes(t, r->basis.q, (size_t)r->basis.rank * r->basis.n);
        break;
    }
    case AA_LEDGER_ESTIMATE: {
        const uint32_t head[2] = {r->estimate.n, 0};
        aa_text_add_bytes(t, head, sizeof head);
        aa_text_add_bytes(t, r->estimate.scalars, r->estimate.n * sizeof(float));
        break;
    }
    case AA_LEDGER_REWIND: aa_text_add_bytes(t, &r->rewind, sizeof r->rewind); break;
    case AA_LEDGER_CHECK: aa_text_add_bytes(t, &r->check, sizeof r->check); break;
    case AA_LEDGER_POOL:
        aa_text_add_bytes(t, &r->pool, 2 * sizeof(uint64_t));
        aa_text_add_bytes(t, r->pool.sums, r->pool.n * sizeof(double));
        break;
    }
}

aa_status aa_ledger_write(aa_ledger *l, const aa_ledger_record *r, aa_err *err) {
    aa_text *t = &l->buffer;
    frame f = {.magic = RECORD_MAGIC, .kind = (uint16_t)r->kind, .index = l->n_records,
               .step = r->step};
    aa_text_clear(t);
    aa_text_add_bytes(t, &f, sizeof f);
    add_payload(t, r);
    pad(t, t->len);
    AA_TRY(aa_text_status(t, err));
    if (t->len - sizeof f > UINT32_MAX)
        return aa_fail(err, AA_EUNSUPPORTED, "a record of %zu bytes is too large for a ledger",
                       t->len);
    f.size = (uint32_t)(t->len - sizeof f);
    f.checksum = checksum(l->salt, &f, t->data + sizeof f);
    memcpy(t->data, &f, sizeof f);
    AA_TRY(put(l, err));
    l->n_records++;
    return AA_OK;
}

aa_status aa_ledger_sync(aa_ledger *l, aa_err *err) {
    int no = fflush(l->file) ? errno : aa_sys_fsync_file(fileno(l->file));
    return no ? aa_fail_errno(err, no, "cannot flush the ledger", l->path) : AA_OK;
}

static aa_digest space_digest(const aa_zo_space *space) {
    aa_digest all = {0};
    for (size_t i = 0; i < space->n_rows; i++) {
        const aa_zo_row *r = &space->rows[i];
        struct { aa_digest before, name; uint64_t id, factor, rows, cols; } part = {
            all, aa_digest_bytes(r->tensor->name, strlen(r->tensor->name)), r->id,
            (uint64_t)r->factor, r->tensor->rows, r->tensor->cols};
        all = aa_digest_bytes(&part, sizeof part);
    }
    return all;
}

aa_ledger_header aa_ledger_header_of(const aa_zo *z, aa_digest base) {
    return (aa_ledger_header){.base = base, .start = aa_zo_digest(z),
                              .space = space_digest(z->space), .seed = (uint64_t)z->config.seed,
                              .generator = AA_DIRECTION_GENERATOR, .config = z->config};
}

/* ---- reading --------------------------------------------------------------------------------- */

static aa_status check_header(const aa_ledger_reader *r, const header *h, aa_err *err) {
    const size_t size = r->map.size_bytes;
    if (size < sizeof *h || memcmp(h->magic, MAGIC, 8) != 0)
        return aa_fail(err, AA_EFORMAT, "'%s' is not a ledger", r->path);
    if (h->version != VERSION)
        return aa_fail(err, AA_EUNSUPPORTED,
                       "'%s' is a ledger of version %u; this program reads %d", r->path, h->version,
                       VERSION);
    if (h->text > MOST_TEXT || h->about > MOST_TEXT || h->size > size ||
        h->size != sizeof *h + padded(h->text) + padded(h->about) + 8)
        return aa_fail(err, AA_EFORMAT, "'%s': the header claims %u bytes, %u of them text",
                       r->path, h->size, h->text);
    uint64_t sum;
    memcpy(&sum, r->map.data + h->size - 8, sizeof sum);
    if (sum != aa_digest_bytes(r->map.data, h->size - 8).lo)
        return aa_fail(err, AA_ECORRUPT, "'%s': the header is damaged (its checksum differs)",
                       r->path);
    if (h->generator != AA_DIRECTION_GENERATOR || h->compacted > 1)
        return aa_fail(err, AA_EUNSUPPORTED,
                       "'%s': directions of generator %u; this program has %d", r->path,
                       h->generator, AA_DIRECTION_GENERATOR);
    return AA_OK;
}

aa_status aa_ledger_open(aa_ledger_reader *out, const char *path, aa_err *err) {
    aa_ledger_reader r = {.path = path};
    header h = {0};
    AA_TRY(aa_map_open(&r.map, path, err));
    if (r.map.size_bytes >= sizeof h) memcpy(&h, r.map.data, sizeof h);
    aa_status st = check_header(&r, &h, err);
    if (!st) {
        r.header = (aa_ledger_header){.base = h.base, .start = h.start, .space = h.space,
                                      .seed = h.seed, .generator = h.generator,
                                      .compacted = h.compacted, .n_about = h.about};
        r.header.about = (const char *)r.map.data + sizeof h + padded(h.text);
        st = aa__zo_config_read(&r.header.config, (const char *)r.map.data + sizeof h, h.text, path,
                                err);
    }
    if (!st && (uint64_t)r.header.config.seed != h.seed)
        st = aa_fail(err, AA_EFORMAT, "'%s': two seeds", path);
    if (st) {
        aa_sys_map_close(&r.map);
        return st;
    }
    r.salt = aa_digest_bytes(r.map.data, h.size).lo;
    r.at = h.size;
    *out = r;
    return AA_OK;
}

void aa_ledger_reader_close(aa_ledger_reader *r) { aa_sys_map_close(&r->map); }

void aa_ledger_rewind(aa_ledger_reader *r) {
    header h;
    memcpy(&h, r->map.data, sizeof h);
    r->at = h.size;
    r->n_read = 0;
    r->torn_bytes = 0;
}

static bool all_finite(const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

static bool read_step(aa_ledger_record *out, const unsigned char *p, size_t size) {
    aa_ledger_step *s = &out->step_of;
    if (size < STEP_BYTES) return false;
    memcpy(s, p, STEP_BYTES);
    s->scalars = (const float *)(const void *)(p + STEP_BYTES);
    return size == padded(STEP_BYTES + (size_t)s->n_scalars * sizeof(float)) &&
           s->n_scalars >= s->n && s->n_scalars <= 2 * (uint32_t)s->n && s->present <= s->n &&
           isfinite(s->rate) && isfinite(s->spread) && isfinite(s->weight) &&
           all_finite(s->scalars, s->n_scalars);
}

static bool read_basis(aa_ledger_record *out, const unsigned char *p, size_t size) {
    uint32_t head[4];
    if (size < sizeof head) return false;
    memcpy(head, p, sizeof head);
    out->basis.row = head[0], out->basis.rank = head[1], out->basis.n = head[2];
    out->basis.scale = (const float *)(const void *)(p + sizeof head);
    const uint64_t scales = (uint64_t)head[1] * sizeof(float), q = (uint64_t)head[1] * head[2];
    if (scales > size || q > size || size != padded(sizeof head + scales + q)) return false;
    out->basis.q = (const int8_t *)(p + sizeof head + scales);
    return all_finite(out->basis.scale, head[1]);
}

static bool read_estimate(aa_ledger_record *out, const unsigned char *p, size_t size) {
    if (size < 8) return false;
    memcpy(&out->estimate.n, p, 4);
    out->estimate.scalars = (const float *)(const void *)(p + 8);
    return size == padded(8 + (uint64_t)out->estimate.n * sizeof(float)) &&
           all_finite(out->estimate.scalars, out->estimate.n);
}

static bool read_pool(aa_ledger_record *out, const unsigned char *p, size_t size) {
    if (size < 16) return false;
    memcpy(&out->pool, p, 16);
    out->pool.sums = (const double *)(const void *)(p + 16);
    if (out->pool.n > size || size != 16 + out->pool.n * sizeof(double)) return false;
    for (uint64_t i = 0; i < out->pool.n; i++)
        if (!isfinite(out->pool.sums[i])) return false;
    return true;
}

/* The payload is the checksum's, so what is wrong here was written so. */
static bool read_payload(aa_ledger_record *out, const unsigned char *p, size_t size) {
    switch (out->kind) {
    case AA_LEDGER_STEP: return read_step(out, p, size);
    case AA_LEDGER_BASIS: return read_basis(out, p, size);
    case AA_LEDGER_ESTIMATE: return read_estimate(out, p, size);
    case AA_LEDGER_REWIND:
        if (size != sizeof out->rewind) return false;
        memcpy(&out->rewind, p, sizeof out->rewind);
        return out->rewind.to <= out->step && out->rewind.factor > 0 && out->rewind.factor <= 1;
    case AA_LEDGER_CHECK:
        if (size != sizeof out->check) return false;
        memcpy(&out->check, p, sizeof out->check);
        return true;
    case AA_LEDGER_POOL: return read_pool(out, p, size);
    }
    return false;
}

static aa_status damaged(const aa_ledger_reader *r, aa_err *err, const char *what) {
    return aa_fail(err, AA_ECORRUPT, "'%s': record %u, at byte %llu of %zu, %s", r->path, r->n_read,
                   (unsigned long long)r->at, r->map.size_bytes, what);
}

static aa_status torn(aa_ledger_reader *r, size_t missing, bool *more, aa_err *err) {
    r->torn_bytes = r->map.size_bytes - r->at;
    if (!r->forgive_torn)
        return aa_fail(err, AA_ECORRUPT,
                       "'%s': record %u, at byte %llu, is cut off: %s%zu bytes are missing from "
                       "the end of the file",
                       r->path, r->n_read, (unsigned long long)r->at,
                       r->torn_bytes < sizeof(frame) ? "at least " : "", missing);
    *more = false;
    return AA_OK;
}

aa_status aa_ledger_next(aa_ledger_reader *r, aa_ledger_record *out, bool *more, aa_err *err) {
    const size_t left = r->map.size_bytes - r->at;
    const unsigned char *p = r->map.data + r->at;
    frame f;
    if (!left) {
        *more = false;
        return AA_OK;
    }
    if (left < sizeof f) return torn(r, sizeof f - left, more, err);
    memcpy(&f, p, sizeof f);
    if (f.magic != RECORD_MAGIC) return damaged(r, err, "does not begin as a record");
    if (f.index != r->n_read || f.zero || f.size % 8)
        return damaged(r, err, "has a damaged head, or is not the next of its ledger");
    if (f.size > left - sizeof f) return torn(r, f.size - (left - sizeof f), more, err);
    if (f.checksum != checksum(r->salt, &f, p + sizeof f))
        return damaged(r, err, "is damaged: its checksum differs");
    aa_ledger_record record = {.kind = (aa_ledger_kind)f.kind, .index = f.index, .step = f.step,
                               .at_bytes = r->at};
    if (!read_payload(&record, p + sizeof f, f.size))
        return damaged(r, err, "says what no run can have written");
    r->at += sizeof f + f.size;
    r->n_read++;
    *out = record;
    *more = true;
    return AA_OK;
}

int aa__ledger_peek(const aa_ledger_reader *r) {
    frame f;
    if (r->map.size_bytes - r->at < sizeof f) return 0;
    memcpy(&f, r->map.data + r->at, sizeof f);
    return f.magic == RECORD_MAGIC ? f.kind : 0;
}

aa_status aa_ledger_verify(const char *path, aa_ledger_summary *out, aa_err *err) {
    aa_ledger_reader r;
    aa_ledger_record record;
    aa_ledger_summary s = {0};
    bool more = false;
    AA_TRY(aa_ledger_open(&r, path, err));
    aa_status st = aa_ledger_next(&r, &record, &more, err);
    for (; !st && more; st = aa_ledger_next(&r, &record, &more, err)) {
        s.records++;
        switch (record.kind) {
        case AA_LEDGER_STEP:
            if (!s.steps++) s.first_step = record.step;
            s.last_step = record.step;
            s.scalars += record.step_of.n_scalars;
            s.last_loss = (double)record.step_of.loss;
            break;
        case AA_LEDGER_BASIS:
            s.bases++;
            s.basis_bytes += (uint64_t)record.basis.rank * record.basis.n;
            break;
        case AA_LEDGER_REWIND:
            s.rewinds++;
            s.undone += record.step - record.rewind.to;
            break;
        case AA_LEDGER_CHECK: s.checks++; break;
        case AA_LEDGER_POOL: s.steps = record.pool.steps; break;
        default: break;
        }
    }
    s.size_bytes = r.map.size_bytes;
    aa_ledger_reader_close(&r);
    if (!st) *out = s;
    return st;
}
