/* data/tokens: opening token files. Everything a file claims is compared with its size before it is
 * used, and every id with the vocabulary, so that no reader needs to check again. */
#include "data/tokens.h"

#include <string.h>
#include "base/memory.h"
#include "data/documents.h"
#include "data/tokens_int.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "token files are mapped as they are");

aa_part aa_part_of(aa_digest document) {
    if (document.lo < UINT64_MAX / 20) return AA_PART_VALID;
    return document.lo < UINT64_MAX / 10 ? AA_PART_TEST : AA_PART_TRAIN;
}

void aa__parts_settle(uint64_t *document, uint8_t *part, uint64_t *n, uint64_t smallest,
                      uint64_t largest) {
    if (*n == 1) {
        uint64_t end = document[1];
        part[0] = AA_PART_TRAIN;
        if (end < 2) return; /* one token cannot be divided */
        uint64_t cut = end - end / 8;
        document[1] = cut < end ? cut : end - 1;
        document[2] = end;
        part[1] = AA_PART_VALID;
        *n = 2;
        return;
    }
    uint64_t count[AA_PART_COUNT] = {0};
    for (uint64_t i = 0; i < *n; i++) count[part[i]]++;
    if (!count[AA_PART_VALID]) {
        count[part[smallest]]--;
        part[smallest] = AA_PART_VALID;
    }
    if (!count[AA_PART_TRAIN]) part[largest] = AA_PART_TRAIN;
}

bool aa_tokens_is_file(const char *path) {
    size_t n = strlen(path);
    aa_sys_info info;
    if (aa_sys_stat(&info, path) || info.kind != AA_SYS_FILE) return false;
    if (n > 4 && strcmp(path + n - 4, ".bin") == 0) return true;
    aa_sys_map map;
    if (aa_sys_map_open(&map, path)) return false;
    bool found = false;
    if (map.size_bytes >= 8) {
        int32_t word[2];
        memcpy(word, map.data, sizeof word);
        found = memcmp(map.data, AA__TOKENS_MAGIC, 8) == 0 ||
                (word[0] == AA__LLMC_U16 && word[1] == 1) ||
                (word[0] == AA__LLMC_U32 && word[1] == 7);
    }
    aa_sys_map_close(&map);
    return found;
}

/* ---- our format ------------------------------------------------------------------------------ */

/* The size a file with these counts has; false if that is no size at all. */
static bool file_size(const aa__tokens_tail *tail, uint64_t width, uint64_t *out) {
    const uint64_t max = UINT64_MAX / 16;
    if (tail->n_tokens > max / width || tail->n_documents > max / 9 - 64) return false;
    uint64_t tokens = aa__pad64(tail->n_tokens * width);
    *out = AA__TOKENS_HEAD + tokens + aa__pad64(9 * tail->n_documents + 8) + sizeof *tail;
    if (tail->flags & AA__TOKENS_MASK) *out += aa__pad64(aa__mask_bytes(tail->n_tokens));
    return true;
}

static aa_status check_documents(const aa_tokens *t, const char *path, aa_err *err) {
    if (!t->n_documents || t->document[0] != 0)
        return aa_fail(err, AA_EFORMAT, "'%s': the table of documents must begin at token 0", path);
    for (uint64_t i = 0; i < t->n_documents; i++) {
        if (t->document[i + 1] <= t->document[i])
            return aa_fail(err, AA_EFORMAT,
                           "'%s': document %llu begins at token %llu, not before the next (%llu)",
                           path, (unsigned long long)i, (unsigned long long)t->document[i],
                           (unsigned long long)t->document[i + 1]);
        if (t->part[i] >= AA_PART_COUNT)
            return aa_fail(err, AA_EFORMAT, "'%s': document %llu is in part %u; parts are 0 to %d",
                           path, (unsigned long long)i, t->part[i], AA_PART_COUNT - 1);
    }
    if (t->document[t->n_documents] != t->n_tokens)
        return aa_fail(err, AA_EFORMAT, "'%s': the documents end at token %llu of %llu", path,
                       (unsigned long long)t->document[t->n_documents],
                       (unsigned long long)t->n_tokens);
    return AA_OK;
}

static aa_status open_ours(aa_tokens *t, const char *path, bool verify, aa_err *err) {
    const unsigned char *p = t->map.data;
    size_t size = t->map.size_bytes;
    uint32_t version, width;
    aa__tokens_tail tail;
    if (size < AA__TOKENS_HEAD + sizeof tail)
        return aa_fail(err, AA_EFORMAT,
                       "'%s': %zu bytes are too few for a token file; it was cut short", path,
                       size);
    memcpy(&version, p + 8, 4);
    memcpy(&width, p + 12, 4);
    memcpy(&tail, p + size - sizeof tail, sizeof tail);
    if (version != 1)
        return aa_fail(err, AA_EUNSUPPORTED, "'%s': token file version %u; this program reads 1",
                       path, version);
    if (width != 2 && width != 4)
        return aa_fail(err, AA_EFORMAT, "'%s': %u bytes per token; 2 and 4 are possible", path,
                       width);
    if (memcmp(tail.magic, AA__TOKENS_END, 8) != 0)
        return aa_fail(
            err, AA_EFORMAT,
            "'%s': the end of the token file is missing; it was cut short or overwritten", path);
    if (tail.flags & ~(uint64_t)AA__TOKENS_MASK)
        return aa_fail(err, AA_EUNSUPPORTED,
                       "'%s': the token file has parts that this program does not know", path);
    uint64_t expected;
    if (!file_size(&tail, width, &expected) || expected != size)
        return aa_fail(err, AA_EFORMAT,
                       "'%s': %zu bytes do not hold the %llu tokens and %llu documents it claims",
                       path, size, (unsigned long long)tail.n_tokens,
                       (unsigned long long)tail.n_documents);
    if (!tail.vocab || tail.vocab > (width == 2 ? UINT16_MAX + 1u : INT32_MAX))
        return aa_fail(err, AA_EFORMAT,
                       "'%s': a vocabulary of %llu does not fit %u bytes per token", path,
                       (unsigned long long)tail.vocab, width);
    if (verify && !aa_digest_equal(aa_digest_bytes(p, size - sizeof tail.digest), tail.digest))
        return aa_fail(err, AA_ECORRUPT,
                       "'%s': the content does not match its digest; tokenize the text again",
                       path);
    t->n_tokens = tail.n_tokens;
    t->n_documents = tail.n_documents;
    t->n_bytes = tail.n_bytes;
    t->vocab = tail.vocab;
    t->tokenizer = tail.tokenizer;
    t->source = tail.source;
    const void *tokens = p + AA__TOKENS_HEAD,
               *table = p + AA__TOKENS_HEAD + aa__pad64(tail.n_tokens * width);
    if (width == 2) t->u16 = tokens;
    else t->u32 = tokens;
    t->document = table;
    t->part = (const uint8_t *)(t->document + t->n_documents + 1);
    if (tail.flags & AA__TOKENS_MASK)
        t->unlearned = (const uint8_t *)table + aa__pad64(9 * tail.n_documents + 8);
    return check_documents(t, path, err);
}

/* ---- formats without a table of documents ---------------------------------------------------- */

enum { CHUNK_TOKENS = 4096 };

/* End of the document at `at`: after the next eos that ends more than eos, or CHUNK_TOKENS further
 * without one. */
static uint64_t next_document(const aa_tokens *t, uint64_t at, int32_t eos) {
    if (eos < 0) return t->n_tokens - at > CHUNK_TOKENS ? at + CHUNK_TOKENS : t->n_tokens;
    while (at < t->n_tokens && aa_tokens_at(t, at) == eos) at++;
    while (at < t->n_tokens && aa_tokens_at(t, at) != eos) at++;
    return at < t->n_tokens ? at + 1 : at;
}

static aa_digest tokens_digest(const aa_tokens *t, uint64_t begin, uint64_t end) {
    return t->u16 ? aa_digest_bytes(t->u16 + begin, (end - begin) * 2)
                  : aa_digest_bytes(t->u32 + begin, (end - begin) * 4);
}

static aa_status make_documents(aa_tokens *t, int32_t eos, aa_err *err) {
    uint64_t n = 0;
    for (uint64_t at = 0; at < t->n_tokens; n++) at = next_document(t, at, eos);
    if (n == 1 && eos >= 0) return make_documents(t, -1, err);      /* nothing was separated */
    uint64_t *document = aa_heap_alloc(n + 2, sizeof *document + 1);
    if (!document) return aa_fail_memory(err, "the documents of a token file", (n + 2) * 9);
    uint8_t *part = (uint8_t *)(document + n + 2);
    uint64_t smallest = 0, largest = 0, lo = UINT64_MAX, hi = 0;
    for (uint64_t i = 0; i < n; i++) {
        document[i + 1] = next_document(t, document[i], eos);
        aa_digest d = tokens_digest(t, document[i], document[i + 1]);
        part[i] = (uint8_t)aa_part_of(d);
        if (d.lo < lo) {
            lo = d.lo;
            smallest = i;
        }
        if (d.lo > hi) {
            hi = d.lo;
            largest = i;
        }
    }
    aa__parts_settle(document, part, &n, smallest, largest);
    t->owned = document;
    t->document = document;
    t->part = part;
    t->n_documents = n;
    return AA_OK;
}

static aa_status open_llmc(aa_tokens *t, uint64_t width, const char *path, aa_err *err) {
    enum { HEAD = 1024 };
    int32_t word[3];
    if (t->map.size_bytes < HEAD)
        return aa_fail(
            err, AA_EFORMAT,
            "'%s': %zu bytes are too few for the 1024-byte header of an llm.c token file", path,
            t->map.size_bytes);
    memcpy(word, t->map.data, sizeof word);
    int32_t version = width == 2 ? 1 : 7;
    if (word[1] != version)
        return aa_fail(err, AA_EUNSUPPORTED,
                       "'%s': llm.c token file version %d; this program reads %d", path, word[1],
                       version);
    uint64_t held = (t->map.size_bytes - HEAD) / width;
    if (word[2] <= 0 || (uint64_t)word[2] != held || (t->map.size_bytes - HEAD) % width)
        return aa_fail(err, AA_EFORMAT, "'%s': its header claims %d tokens, its size holds %llu",
                       path, word[2], (unsigned long long)held);
    t->n_tokens = held;
    if (width == 2) t->u16 = (const void *)(t->map.data + HEAD);
    else t->u32 = (const void *)(t->map.data + HEAD);
    return AA_OK;
}

static aa_status open_raw(aa_tokens *t, const char *path, aa_err *err) {
    if (!t->map.size_bytes || t->map.size_bytes % 2)
        return aa_fail(err, AA_EFORMAT, "'%s': %zu bytes are no sequence of 16-bit tokens", path,
                       t->map.size_bytes);
    t->n_tokens = t->map.size_bytes / 2;
    t->u16 = (const void *)t->map.data;
    return AA_OK;
}

static aa_status check_ids(const aa_tokens *t, uint64_t vocab, const char *path, aa_err *err) {
    for (uint64_t i = 0; i < t->n_tokens; i++) {
        uint32_t id = t->u16 ? t->u16[i] : t->u32[i];
        if (id >= vocab)
            return aa_fail(
                err, AA_EFORMAT,
                "'%s': token %llu is %u; ids must be below %llu. Is it another tokenizer's file?",
                path, (unsigned long long)i, id, (unsigned long long)vocab);
    }
    return AA_OK;
}

static aa_status open_mapped(aa_tokens *t, const char *path, uint64_t vocab, int32_t eos,
                             bool verify, aa_err *err) {
    int32_t magic = 0;
    if (t->map.size_bytes >= 4) memcpy(&magic, t->map.data, 4);
    bool ours = t->map.size_bytes >= 8 && memcmp(t->map.data, AA__TOKENS_MAGIC, 8) == 0;
    size_t n = strlen(path);
    if (ours) AA_TRY(open_ours(t, path, verify, err));
    else if (magic == AA__LLMC_U16) AA_TRY(open_llmc(t, 2, path, err));
    else if (magic == AA__LLMC_U32) AA_TRY(open_llmc(t, 4, path, err));
    else if (n > 4 && strcmp(path + n - 4, ".bin") == 0) AA_TRY(open_raw(t, path, err));
    else
        return aa_fail(err, AA_EFORMAT,
                       "'%s' is no token file: neither ours, nor llm.c's, nor a raw *.bin", path);
    if (!ours) t->vocab = t->u16 ? UINT16_MAX + 1u : INT32_MAX;
    if (!ours && t->u16 && vocab > t->vocab)
        return aa_fail(err, AA_EFORMAT,
                       "'%s' has tokens of 16 bits, which cannot be those of a vocabulary of %llu: "
                       "larger ids were cut off when it was written; tokenize the text again",
                       path, (unsigned long long)vocab);
    if (vocab && vocab < t->vocab) t->vocab = vocab;
    if (!(t->u16 && t->vocab > UINT16_MAX)) AA_TRY(check_ids(t, t->vocab, path, err));
    return ours ? AA_OK : make_documents(t, eos, err);
}

aa_status aa_tokens_open(aa_tokens *out, const char *path, uint64_t vocab, int32_t eos, bool verify,
                         aa_err *err) {
    aa_tokens t = {0};
    AA_TRY(aa_map_open(&t.map, path, err));
    aa_status st = open_mapped(&t, path, vocab, eos, verify, err);
    if (st) aa_tokens_close(&t);
    else *out = t;
    return st;
}

void aa_tokens_close(aa_tokens *t) {
    aa_sys_map_close(&t->map);
    aa_heap_free(t->owned);
    *t = (aa_tokens){0};
}
