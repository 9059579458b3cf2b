/* data/split: cutting text into the pieces within which merges happen.
 *
 * Each of the known pre-tokenizers is a regex whose matches, leftmost and first alternative first,
 * cover any text. Written by hand they are one look at a symbol's class and a run of equal classes,
 * some 50 times faster than a regex engine. A test runs PCRE2 with the true patterns against them.
 *
 * Where the alternatives are exhaustive, the order matters only in these places: contractions
 * before letters; a leading space (gpt2: U+0020 before any run; llama3: any symbol but a line end
 * before letters, U+0020 before others); and \s+(?!\S), which leaves the last space of a run to
 * what follows.
 *
 * smollm splits numbers off one by one before gpt2's pattern sees the rest: to \s+(?!\S) a digit is
 * then the end of the text.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>
#include "data/tokenizer_int.h"

const char aa__regex_gpt2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const char aa__regex_llama3[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{"
                                "1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
                                "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char aa__regex_qwen2[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
                               "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
                               "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/* The symbol at `at`; newer: what the newer numbers count as. */
static inline aa__symbol look(const unsigned char *text, size_t at, size_t end, aa__class newer) {
    aa__symbol s = aa__symbol_at(text + at, end - at);
    if (s.class == AA__NEW_NUMBER) s.class = newer;
    return s;
}

/* End of the run of one class that goes on at `at`. */
static size_t run(const unsigned char *text, size_t at, size_t end, aa__class class,
                  aa__class newer) {
    while (at < end) {
        aa__symbol s = look(text, at, end, newer);
        if (s.class != class) break;
        at += s.n_bytes;
    }
    return at;
}

/* The piece of a run of white space [at, stop):
 * all of it at the end of the text, else all but the last. */
static size_t space_piece(const unsigned char *text, size_t at, size_t stop, bool at_end) {
    if (at_end) return stop;
    size_t last = stop - 1;
    while (last > at && (text[last] & 0xC0) == 0x80) last--;
    return last > at ? last : stop;
}

/* Length of a contraction at `at`, 0 if none. U+017F (long s) folds to s where case is ignored. */
static size_t contraction(const unsigned char *p, size_t n, bool any_case) {
    if (n < 2 || p[0] != '\'') return 0;
    unsigned char bit = any_case ? 0x20 : 0, a = p[1] | bit, b = n > 2 ? p[2] | bit : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if (any_case && n > 2 && p[1] == 0xC5 && p[2] == 0xBF) return 3;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* With single_numbers the text ends before a number (and never begins with one). */
static size_t gpt2_next(const unsigned char *text, size_t at, size_t end, bool single_numbers) {
    const aa__class newer = single_numbers ? AA__NUMBER : AA__OTHER;
    size_t k = contraction(text + at, end - at, false);
    if (k) return at + k;
    aa__symbol s = look(text, at, end, newer);
    if (text[at] == ' ' && at + 1 < end) {
        aa__symbol next = look(text, at + 1, end, newer);
        if (next.class != AA__SPACE && !(single_numbers && next.class == AA__NUMBER)) {
            at += 1;
            s = next;
        }
    }
    size_t stop = run(text, at + s.n_bytes, end, s.class, newer);
    if (s.class != AA__SPACE) return stop;
    bool at_end =
        stop == end || (single_numbers && look(text, stop, end, newer).class == AA__NUMBER);
    return space_piece(text, at, stop, at_end);
}

static size_t smollm_next(const unsigned char *text, size_t at, size_t end) {
    aa__symbol s = look(text, at, end, AA__NUMBER);
    return s.class == AA__NUMBER ? at + s.n_bytes : gpt2_next(text, at, end, true);
}

static size_t llama3_next(const unsigned char *text, size_t at, size_t end, int max_numbers) {
    size_t k = contraction(text + at, end - at, true);
    if (k) return at + k;
    aa__symbol s = look(text, at, end, AA__OTHER);
    if (s.class == AA__LETTER) return run(text, at + s.n_bytes, end, AA__LETTER, AA__OTHER);
    if (s.class == AA__NUMBER) {
        for (int n = 0; n < max_numbers && at < end; n++) {
            s = look(text, at, end, AA__OTHER);
            if (s.class != AA__NUMBER) break;
            at += s.n_bytes;
        }
        return at;
    }
    size_t after = at + s.n_bytes;
    aa__symbol next = after < end ? look(text, after, end, AA__OTHER) : (aa__symbol){0, AA__SPACE};
    if (next.class == AA__LETTER && text[at] != '\r' && text[at] != '\n')
        return run(text, after, end, AA__LETTER, AA__OTHER);
    if (s.class == AA__OTHER || (text[at] == ' ' && next.class == AA__OTHER)) {
        at = run(text, after, end, AA__OTHER, AA__OTHER);
        while (at < end && (text[at] == '\r' || text[at] == '\n')) at++;
        return at;
    }
    size_t stop = run(text, after, end, AA__SPACE, AA__OTHER);
    for (size_t i = stop; i > at; i--)
        if (text[i - 1] == '\r' || text[i - 1] == '\n') return i;
    return space_piece(text, at, stop, stop == end);
}

/* A run of spaces belongs to what follows it. */
static size_t spaces_next(const unsigned char *text, size_t at, size_t end) {
    while (at < end && text[at] == ' ') at++;
    const unsigned char *space = at < end ? memchr(text + at, ' ', end - at) : NULL;
    return space ? (size_t)(space - text) : end;
}

size_t aa__split_next(aa_split split, const unsigned char *text, size_t at, size_t end) {
    switch (split) {
    case AA_SPLIT_GPT2: return gpt2_next(text, at, end, false);
    case AA_SPLIT_SMOLLM: return smollm_next(text, at, end);
    case AA_SPLIT_LLAMA3: return llama3_next(text, at, end, 3);
    case AA_SPLIT_QWEN2: return llama3_next(text, at, end, 1);
    case AA_SPLIT_SPACES: return spaces_next(text, at, end);
    case AA_SPLIT_NONE:
    case AA_SPLIT_REGEX: break;
    }
    return end;
}

/* Between an ASCII letter and a space or line feed no piece of the four patterns can reach across:
 * each alternative that takes a letter ends with letters (contractions included), and none looks
 * behind. The left part ends with a letter, so no \s+(?!\S) can see the new end of the text. NFC
 * does not reach across either: a space never combines with what is before it. Where only spaces
 * cut, line feeds are inside pieces. Bytes can be cut anywhere. */
size_t aa__split_cut(const aa_tokenizer *t, const unsigned char *text, size_t from, size_t n) {
    if (from >= n) return n;
    if (t->kind == AA_TOKENIZER_BYTES) return from;
    if (t->split == AA_SPLIT_NONE || t->split == AA_SPLIT_REGEX) return n;
    for (size_t i = from ? from : 1; i < n; i++) {
        unsigned char letter = text[i - 1] | 0x20;
        bool cuts = text[i] == ' ' || (text[i] == '\n' && t->split != AA_SPLIT_SPACES);
        if (cuts && letter >= 'a' && letter <= 'z') return i;
    }
    return n;
}

/* ---- any other pattern ----------------------------------------------------------------------- */

static void *regex_alloc(size_t n, void *ctx) {
    (void)ctx;
    return aa_heap_alloc(n, 1);
}
static void regex_free(void *p, void *ctx) {
    (void)ctx;
    aa_heap_free(p);
}

/* PCRE2's \s has U+180E, which is no White_Space, so \s and \S are spelt out. \S within a class
 * cannot be, and keeps PCRE2's meaning. */
#define WHITE                                                                                      \
    "\\x09-\\x0d\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}"   \
    "\\x{3000}"

static void spell_white(aa_text *out, const char *p) {
    bool class = false;
    for (const char *open = NULL; *p; p++) {
        if (p[0] == '\\' && p[1]) {
            if (p[1] == 's') aa_text_add(out, class ? WHITE : "[" WHITE "]");
            else if (p[1] == 'S' && !class) aa_text_add(out, "[^" WHITE "]");
            else aa_text_add_bytes(out, p, 2);
            p++;
            continue;
        }
        if (!class && *p == '[') {
            class = true;
            open = p[1] == '^' ? p + 2 : p + 1;
        } else if (class && *p == ']' && p != open) { /* the first ] of a class is a member */
            class = false;
        }
        aa_text_add_bytes(out, p, 1);
    }
}

static aa_status compile(void **out, const char *pattern, aa_err *err) {
    pcre2_general_context *general = pcre2_general_context_create(regex_alloc, regex_free, NULL);
    pcre2_compile_context *context = general ? pcre2_compile_context_create(general) : NULL;
    int code = 0;
    PCRE2_SIZE at = 0;
    pcre2_code *re = context ? pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                             PCRE2_UTF | PCRE2_UCP, &code, &at, context)
                             : NULL;
    pcre2_compile_context_free(context);
    pcre2_general_context_free(general);
    if (!re && (!context || code == PCRE2_ERROR_NOMEMORY))
        return aa_fail_memory(err, "a regex", strlen(pattern));
    if (!re) {
        unsigned char text[128];
        pcre2_get_error_message(code, text, sizeof text);
        return aa_fail(err, AA_EUNSUPPORTED,
                       "the pre-tokenizer's regex is not accepted at character %zu: %s", (size_t)at,
                       text);
    }
    (void)pcre2_jit_compile(re,
                            PCRE2_JIT_COMPLETE); /* where there is no JIT, the interpreter runs */
    *out = re;
    return AA_OK;
}

/* Which code points are letters in a pattern of the user's is for the installed PCRE2 to say. */
aa_status aa__regex_compile(void **out, const char *pattern, aa_err *err) {
    aa_text spelt = {0};
    spell_white(&spelt, pattern);
    aa_status st = aa_text_status(&spelt, err);
    if (!st) st = compile(out, spelt.data ? spelt.data : "", err);
    aa_text_release(&spelt);
    return st;
}

void aa__regex_free(void *pcre) { pcre2_code_free(pcre); }

static aa_status split_valid(const pcre2_code *re, pcre2_match_data *data,
                             const unsigned char *text, size_t n, aa__piece_fn *fn, void *ctx,
                             aa_err *err) {
    const size_t *span = pcre2_get_ovector_pointer(data);
    size_t done = 0, from = 0;
    while (from < n) {
        int found = pcre2_match(re, text, n, from, PCRE2_NO_UTF_CHECK, data, NULL);
        if (found == PCRE2_ERROR_JIT_STACKLIMIT)
            found = pcre2_match(re, text, n, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data, NULL);
        if (found == PCRE2_ERROR_NOMATCH) break;
        if (found == PCRE2_ERROR_NOMEMORY) return aa_fail_memory(err, "matching a regex", n);
        if (found < 0)
            return aa_fail(err, AA_EUNSUPPORTED,
                           "the pre-tokenizer's regex gave up on a text (PCRE2 error %d)", found);
        size_t begin = span[0] < done ? done : span[0]; /* \K may move the beginning back */
        if (span[1] <= begin) {                         /* an empty match cuts nothing */
            from = begin + 1;
            while (from < n && (text[from] & 0xC0) == 0x80) from++;
            continue;
        }
        if (begin > done) fn(ctx, text + done, begin - done);
        fn(ctx, text + begin, span[1] - begin);
        from = done = span[1];
    }
    if (done < n) fn(ctx, text + done, n - done);
    return AA_OK;
}

/* The regex sees stretches of valid UTF-8; what is between them is a piece. */
aa_status aa__regex_split(const void *pcre, const unsigned char *text, size_t n, aa__piece_fn *fn,
                          void *ctx, aa_err *err) {
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(pcre, NULL);
    if (!data) return aa_fail_memory(err, "a regex", 0);
    aa_status st = AA_OK;
    for (size_t at = 0; !st && at < n;) {
        size_t valid = at, k;
        uint32_t code;
        while (valid < n && (k = aa__utf8_decode(text + valid, n - valid, &code))) valid += k;
        st = split_valid(pcre, data, text + at, valid - at, fn, ctx, err);
        for (at = valid; at < n && !aa__utf8_decode(text + at, n - at, &code);) at++;
        if (!st && at > valid) fn(ctx, text + valid, at - valid);
    }
    pcre2_match_data_free(data);
    return st;
}
