/* data/chat: rows for templates, and the canonical spelling they are compared in.
 *
 * Canonical is a template without comments, white space in tags and "-" at their ends; strings are
 * in single quotes with escapes decoded, neighbours joined by + are one; `.name` is ['name']. Of
 * the text between tags a line feed after an expression stays, if Jinja would print it. A single
 * quote within a string is \x01, so that a quote is always the end of one.
 */
#include <ctype.h>
#include <string.h>
#include "base/memory.h"
#include "data/chat.h"
#include "data/unicode.h"

enum { QUOTE = 1, ROLES = 3 };

/* Where a system message goes that stands first. */
typedef enum { OWN, NOWHERE, FIRST_USER, LAST_USER } placing;

typedef struct row {
    const char *name;
    const char *need[3];                /* in the canonical template */
    const char *open[ROLES], *close[ROLES];    /* "{eos}" begins a close: the token's text */
    const char *answer;                 /* before an answer; templates may add to it */
    const char *end;                    /* as aa_chat_end */
    placing system;
    bool trim[ROLES], alternate, think, dates;
} row;

#define CHATML_OPEN {"<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n"}
#define CHATML_CLOSE {"<|im_end|>\n", "<|im_end|>\n", "<|im_end|>\n"}
#define CHATML                                                                                     \
    .open = CHATML_OPEN, .close = CHATML_CLOSE, .answer = "<|im_start|>assistant\n",               \
    .end = "<|im_end|>"
#define HEADER(role) "<|start_header_id|>" role "<|end_header_id|>\n\n"
#define LLAMA3                                                                                     \
    .open = {HEADER("system"), HEADER("user"), HEADER("assistant")},                               \
    .close = {"<|eot_id|>", "<|eot_id|>", "<|eot_id|>"}, .answer = HEADER("assistant"),            \
    .end = "<|eot_id|>", .trim = {true, true, true}
#define LLAMA3_MESSAGE                                                                             \
    "{{'<|start_header_id|>'+message['role']+'<|end_header_id|>\n\n'+message['content']|trim+"     \
    "'<|eot_id|>'}}"

static const row rows[] = {
    {"qwen3", {"{{'<|im_start|>'+message['role']+'\n<think>\n'+reasoning_content.strip('\n')+"
               "'\n</think>\n\n'+content.lstrip('\n')}}", "ns['last_query_index']"},
     CHATML, .think = true},
    {"chatml", {"{{'<|im_start|>'+message['role']+'\n'+message['content']+'<|im_end|>\n'}}"},
     CHATML},
    {"chatml", {"{{'<|im_start|>'+message['role']+'\n'+content+'<|im_end|>\n'}}"}, CHATML},
    {"llama3.1", {LLAMA3_MESSAGE, "{{'Cutting Knowledge Date: December 2023\n'}}",
                  "{{'Today Date: '+date_string+'\n\n'}}"},
     LLAMA3, .dates = true},
    {"llama3", {"setcontent='<|start_header_id|>'+message['role']+'<|end_header_id|>\n\n'+"
                "message['content']|trim+'<|eot_id|>'"},
     LLAMA3},
    {"mistral-v1", {"{{'[INST] '+message['content']+' [/INST]'}}",
                    "{{message['content']+eos_token}}"},
     .open = {NULL, "[INST] ", ""}, .close = {NULL, " [/INST]", "{eos}"}, .system = NOWHERE,
     .alternate = true},
    {"mistral-v1", {"{{'[INST] '+message['content']+' [/INST]'}}",
                    "{{message['content']+eos_token+' '}}"},
     .open = {NULL, "[INST] ", ""}, .close = {NULL, " [/INST]", "{eos} "}, .system = NOWHERE,
     .alternate = true},
    {"mistral-v2", {"{{' [INST] '+message['content']+' [/INST]'}}",
                    "{{' '+message['content']+eos_token}}",
                    "{{' [INST] '+system_message+'\n\n'+message['content']+' [/INST]'}}"},
     .open = {NULL, " [INST] ", " "}, .close = {NULL, " [/INST]", "{eos}"}, .system = FIRST_USER,
     .alternate = true},
    {"mistral-v3", {"{{'[INST] '+message['content']+'[/INST]'}}",
                    "{{' '+message['content']|trim+eos_token}}",
                    "{{'[INST] '+system_message+'\n\n'+message['content']+'[/INST]'}}"},
     .open = {NULL, "[INST] ", " "}, .close = {NULL, "[/INST]", "{eos}"}, .system = LAST_USER,
     .trim = {[AA_CHAT_ASSISTANT] = true}, .alternate = true},
    {"zephyr", {"{{'<|user|>\n'+message['content']+eos_token}}\n",
                "{{'<|system|>\n'+message['content']+eos_token}}\n",
                "{{'<|assistant|>\n'+message['content']+eos_token}}\n"},
     .open = {"<|system|>\n", "<|user|>\n", "<|assistant|>\n"},
     .close = {"{eos}\n", "{eos}\n", "{eos}\n"}, .answer = "<|assistant|>\n"},
};
static const row raw = {"raw", .open = {"", "", ""}, .close = {"\n", "\n", "\n"}};

struct aa_chat {
    const row *row;
    bool begins;                 /* with bos */
    char *bos, *eos;
    char *system;                /* said where the conversation has none, or NULL */
    char *answer;                /* before an answer */
    char *date;                  /* the template's own, or NULL: the caller's */
};

/* ---- the canonical spelling ------------------------------------------------------------------ */

static bool is_name(char c) { return isalnum((unsigned char)c) || c == '_'; }

/* A string literal that begins at s; what follows it. */
static const char *literal(const char *s, aa_text *out) {
    char quote = *s++;
    bool joined = out->len > 1 && memcmp(out->data + out->len - 2, "'+", 2) == 0;
    if (joined) out->len -= 2;
    else aa_text_add(out, "'");
    for (; *s && *s != quote; s++) {
        char c = *s;
        if (c == '\\' && s[1]) {
            c = *++s;
            if (c == 'n') c = '\n';
            else if (c == 't') c = '\t';
            else if (c == 'r') c = '\r';
        }
        if (c == '\'') c = QUOTE;
        aa_text_add_bytes(out, &c, 1);
    }
    aa_text_add(out, "'");
    return *s ? s + 1 : s;
}

/* `.name` at s, unless it is a call; what follows it, or s. */
static const char *attribute(const char *s, aa_text *out) {
    const char *end = s + 1;
    char before = out->len ? out->data[out->len - 1] : 0;
    if (!is_name(before) && before != ']') return s;
    while (is_name(*end)) end++;
    if (end == s + 1 || isdigit((unsigned char)s[1]) || *end == '(') return s;
    aa_text_add(out, "['");
    aa_text_add_bytes(out, s + 1, (size_t)(end - s - 1));
    aa_text_add(out, "']");
    return end;
}

/* The inside of a tag up to its end; what follows it. */
static const char *tag(const char *s, char kind, aa_text *out, bool *strips) {
    char close[3] = {kind == '{' ? '}' : kind, '}', 0};
    *strips = false;
    while (*s && strncmp(s, close, 2) != 0) {
        const char *next = s;
        if (*s == '\'' || *s == '"') next = literal(s, out);
        else if (*s == '.') next = attribute(s, out);
        *strips = *s == '-';
        bool ends = *strips && strncmp(s + 1, close, 2) == 0;
        if (next == s && !ends && !isspace((unsigned char)*s)) aa_text_add_bytes(out, s, 1);
        s = next == s ? s + 1 : next;
    }
    return *s ? s + 2 : s;
}

static void canonical(const char *s, aa_text *out) {
    while (*s) {
        if (s[0] != '{' || !strchr("{%#", s[1]) || !s[1]) {
            if (!isspace((unsigned char)*s)) aa_text_add_bytes(out, s, 1);
            s++;
            continue;
        }
        char kind = s[1];
        s += 2;
        if (kind == '#') {
            const char *end = strstr(s, "#}");
            s = end ? end + 2 : s + strlen(s);
            continue;
        }
        if (*s == '-' || *s == '+') s++;
        const char open[2] = {'{', kind}, close[2] = {kind == '{' ? '}' : kind, '}'};
        bool strips;
        aa_text_add_bytes(out, open, 2);
        s = tag(s, kind, out, &strips);
        aa_text_add_bytes(out, close, 2);
        const char *next = s + strspn(s, " \t\r\n");
        bool eaten = strips || (next[0] == '{' && next[1] && next[2] == '-');
        if (kind == '{' && *s == '\n' && !eaten) aa_text_add(out, "\n");
    }
}

/* ---- finding the row ------------------------------------------------------------------------- */

static const row *row_of(const char *text) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool all = true;
        for (size_t k = 0; k < 3 && rows[i].need[k]; k++) all &= strstr(text, rows[i].need[k]) != 0;
        if (all) return &rows[i];
    }
    return NULL;
}

/* n bytes of the canonical template as they are printed. */
static char *printed(const char *s, size_t n) {
    char *copy = aa_heap_printf("%.*s", (int)n, s);
    for (char *p = copy; p && *p; p++)
        if (*p == QUOTE) *p = '\'';
    return copy;
}

/* The system prompt that a ChatML template prints where there is none: the inside of a string
 * '<|im_start|>system\n ... <|im_end|>'. */
static bool default_system(const char *text, char **out) {
    static const char head[] = "'<|im_start|>system\n";
    for (const char *s = text; (s = strstr(s, head)); ) {
        s += sizeof head - 1;
        const char *end = strstr(s, "<|im_end|>"), *quote = strchr(s, '\'');
        if (!end || !quote || end > quote || end == s) continue;
        *out = printed(s, (size_t)(end - s));
        return *out != NULL;
    }
    return true;
}

/* What the template prints before an answer: the expression that is one string and begins so. */
static bool begin_answer(const char *text, const char *known, char **out) {
    char *head = aa_heap_printf("{{'%s", known ? known : "");
    const char *s = head && known ? strstr(text, head) : NULL;
    for (; s; s = strstr(s + 1, head)) {
        const char *quote = strchr(s + 3, '\'');
        if (!quote || strncmp(quote, "'}}", 3) != 0) continue;
        *out = printed(s + 3, (size_t)(quote - s - 3));
        break;
    }
    if (head && !*out) *out = aa_heap_strdup(known ? known : "");
    aa_heap_free(head);
    return *out != NULL;
}

/* The date of a template that does not ask for the day's: date_string='26 Jul 2024'. */
static bool own_date(const char *text, char **out) {
    static const char head[] = "setdate_string='";
    const char *s = strstr(text, "strftime_now") ? NULL : strstr(text, head);
    const char *quote = s ? strchr(s + sizeof head - 1, '\'') : NULL;
    if (!quote) return true;
    *out = printed(s + sizeof head - 1, (size_t)(quote - s) - (sizeof head - 1));
    return *out != NULL;
}

static bool token_text(const aa_tokenizer *t, int32_t id, char **out) {
    aa_text text = {0};
    aa_status st = id < 0 ? AA_OK : aa_decode(t, &id, 1, AA_DECODE_SPECIALS, &text, NULL);
    *out = st ? NULL : aa_heap_strdup(text.data ? text.data : "");
    aa_text_release(&text);
    return *out != NULL;
}

/* ---- opening --------------------------------------------------------------------------------- */

static aa_status make(aa_chat **out, const row *r, const char *text, const aa_tokenizer *t,
                      aa_err *err) {
    aa_chat *c = aa_heap_alloc(1, sizeof *c);
    if (!c) return aa_fail_memory(err, "a chat template", sizeof *c);
    c->row = r;
    c->begins = strstr(text, "bos_token") != NULL;
    bool done = token_text(t, aa_tokenizer_bos(t), &c->bos) &&
                token_text(t, aa_tokenizer_eos(t), &c->eos) &&
                default_system(text, &c->system) && begin_answer(text, r->answer, &c->answer) &&
                own_date(text, &c->date);
    if (done) *out = c;
    else aa_chat_free(c);
    return done ? AA_OK : aa_fail_memory(err, "a chat template", strlen(text));
}

aa_status aa_chat_new(aa_chat **out, const char *jinja, const aa_tokenizer *t, aa_err *err) {
    if (!jinja)
        return aa_fail(err, AA_ENOTFOUND,
                       "the model has no chat template: it was not trained to hold a conversation; "
                       "--template gives one, generate --raw works without");
    aa_text text = {0};
    canonical(jinja, &text);
    aa_status st = aa_text_status(&text, err);
    const row *r = st || !text.len ? NULL : row_of(text.data);
    if (!st && !r)
        st = aa_fail(err, AA_EUNSUPPORTED,
                     "the model's chat template is none of those known (ChatML, Qwen 2 to 3, "
                     "SmolLM2, Llama 3, Mistral, Zephyr); --template gives another, generate --raw "
                     "works without");
    if (!st) st = make(out, r, text.data, t, err);
    aa_text_release(&text);
    return st;
}

aa_status aa_chat_new_raw(aa_chat **out, const aa_tokenizer *t, aa_err *err) {
    return make(out, &raw, aa_tokenizer_add_bos(t) ? "bos_token" : "", t, err);
}

void aa_chat_free(aa_chat *c) {
    if (!c) return;
    char *const texts[] = {c->bos, c->eos, c->system, c->answer, c->date};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) aa_heap_free(texts[i]);
    aa_heap_free(c);
}

const char *aa_chat_name(const aa_chat *c) { return c->row->name; }

const char *aa_chat_end(const aa_chat *c) {
    return c->row->end ? c->row->end : *c->eos ? c->eos : NULL;
}

size_t aa_chat_end_ids(const aa_chat *c, const aa_tokenizer *t, int32_t ids[2]) {
    size_t n = 0;
    aa_ids end = {0};
    if (aa_tokenizer_eos(t) >= 0) ids[n++] = aa_tokenizer_eos(t);
    if (c->row->end && aa_encode(t, c->row->end, strlen(c->row->end), AA_ENCODE_SPECIALS, &end,
                                 NULL) == AA_OK && end.len == 1 && (!n || end.data[0] != ids[0]))
        ids[n++] = end.data[0];
    aa_ids_release(&end);
    return n;
}

const char *aa_chat_answer(const aa_chat *c, const char *text) {
    const char *open = c->row->open[AA_CHAT_ASSISTANT];
    size_t n = strlen(open);
    return !*c->answer && strncmp(text, open, n) == 0 ? text + n : text;
}

/* ---- rendering ------------------------------------------------------------------------------- */

/* Part of a message's text. */
typedef struct slice { const char *s; size_t n; } slice;

static slice slice_of(const char *s) { return (slice){s, strlen(s)}; }

/* Python's str.strip(): white space, and the four separators below it. */
static bool strips(const char *s, size_t n) {
    return (n == 1 && *s >= 0x1C && *s <= 0x1F) ||
           aa__symbol_at((const unsigned char *)s, n).class == AA__SPACE;
}

static slice trimmed(slice t) {
    while (t.n) {
        size_t k = aa__symbol_at((const unsigned char *)t.s, t.n).n_bytes;
        if (!strips(t.s, k)) break;
        t.s += k;
        t.n -= k;
    }
    while (t.n) {
        size_t k = 1;
        while (k < 4 && k < t.n && (t.s[t.n - k] & 0xC0) == 0x80) k++;
        if (!strips(t.s + t.n - k, k)) break;
        t.n -= k;
    }
    return t;
}

static slice without_lines(slice t, bool before, bool after) {
    while (before && t.n && *t.s == '\n') t.s++, t.n--;
    while (after && t.n && t.s[t.n - 1] == '\n') t.n--;
    return t;
}

static void add(aa_text *out, slice t) { aa_text_add_bytes(out, t.s, t.n); }

static void close_with(const aa_chat *c, const char *text, aa_text *out) {
    static const char eos[] = "{eos}";
    bool has_eos = strncmp(text, eos, sizeof eos - 1) == 0;
    if (has_eos) aa_text_add(out, c->eos);
    aa_text_add(out, has_eos ? text + sizeof eos - 1 : text);
}

/* The parts of an answer of a thinking model: before the last and after the first </think>. */
static void split_thought(slice content, slice *thought, slice *rest) {
    static const char open[] = "<think>", close[] = "</think>";
    const char *first = strstr(content.s, close), *last = first;
    *thought = (slice){content.s, 0};
    *rest = content;
    if (!first) return;
    for (const char *s = first; (s = strstr(s, close)); s += sizeof close - 1) last = s;
    *rest = without_lines(slice_of(last + sizeof close - 1), true, false);
    thought->n = (size_t)(first - content.s);
    *thought = without_lines(*thought, false, true);
    for (const char *s = content.s; (s = strstr(s, open)) && s < first; ) {
        s += sizeof open - 1;
        size_t at = (size_t)(s - content.s);
        if (at > thought->n + (size_t)(thought->s - content.s)) break;
        thought->n -= at - (size_t)(thought->s - content.s);
        thought->s = s;
    }
    *thought = without_lines(*thought, true, false);
}

/* Thoughts are shown only after the last question, that of the answer to come always. */
static void add_thinking(const aa_chat_message *m, size_t i, size_t n, size_t last_question,
                         aa_text *out) {
    slice thought, rest;
    split_thought(slice_of(m[i].content), &thought, &rest);
    if (i > last_question && (i + 1 == n || thought.n)) {
        aa_text_add(out, "<think>\n");
        add(out, without_lines(thought, true, true));
        aa_text_add(out, "\n</think>\n\n");
        rest = without_lines(rest, true, false);
    }
    add(out, rest);
}

static bool is_tool_response(const char *s) {
    static const char open[] = "<tool_response>", close[] = "</tool_response>";
    size_t n = strlen(s);
    return strncmp(s, open, sizeof open - 1) == 0 && n >= sizeof close - 1 &&
           strcmp(s + n - (sizeof close - 1), close) == 0;
}

static size_t last_user(const aa_chat_message *m, size_t n, bool question) {
    for (size_t i = n; i-- > 0;)
        if (m[i].role == AA_CHAT_USER && !(question && is_tool_response(m[i].content))) return i;
    return n ? n - 1 : 0;
}

/* System prompts that have no place of their own are part of a user's message. */
static aa_status check_messages(const row *r, const aa_chat_message *m, size_t n, bool has_system,
                                aa_err *err) {
    if (has_system && r->system == NOWHERE)
        return aa_fail(err, AA_EUSAGE, "the model's chat template (%s) knows no system prompt; "
                       "put it into the first message", r->name);
    for (size_t i = has_system; r->alternate && i < n; i++)
        if (m[i].role != ((i - has_system) % 2 ? AA_CHAT_ASSISTANT : AA_CHAT_USER))
            return aa_fail(err, AA_EUSAGE, "message %zu: the model's chat template (%s) wants "
                           "messages of user and assistant in turn", i + 1, r->name);
    return AA_OK;
}

static void add_head(const aa_chat *c, const aa_chat_message *m, bool has_system,
                     const aa_chat_options *o, aa_text *out) {
    const row *r = c->row;
    if (c->begins) aa_text_add(out, c->bos);
    if (r->dates) {
        aa_text_add(out, r->open[AA_CHAT_SYSTEM]);
        aa_text_printf(out, "Cutting Knowledge Date: December 2023\nToday Date: %s\n\n",
                       c->date ? c->date : o->date ? o->date : "26 Jul 2024");
        if (has_system) add(out, trimmed(slice_of(m[0].content)));
        aa_text_add(out, r->close[AA_CHAT_SYSTEM]);
    } else if (c->system && !has_system) {
        aa_text_add(out, r->open[AA_CHAT_SYSTEM]);
        aa_text_add(out, c->system);
        aa_text_add(out, r->close[AA_CHAT_SYSTEM]);
    }
}

aa_status aa_chat_render(const aa_chat *c, const aa_chat_message *m, size_t n, aa_chat_options *o,
                         aa_text *out, aa_err *err) {
    const row *r = c->row;
    bool has_system = n && m[0].role == AA_CHAT_SYSTEM;
    size_t begin = has_system && (r->dates || r->system != OWN);     /* of what is said in turn */
    size_t holder = n; /* of a system prompt that has no place of its own */
    AA_TRY(check_messages(r, m, n, has_system, err));
    add_head(c, m, has_system, o, out);
    if (begin && r->system == FIRST_USER) holder = 1;
    if (begin && r->system == LAST_USER) holder = n - 1;
    o->n_answers = 0;
    for (size_t i = begin; i < n; i++) {
        aa_chat_role role = m[i].role;
        aa_text_add(out, r->open[role]);
        size_t at = out->len;
        if (i == holder && role == AA_CHAT_USER)
            aa_text_printf(out, "%s\n\n", m[0].content);
        if (r->think && role == AA_CHAT_ASSISTANT)
            add_thinking(m, i, n, last_user(m, n, true), out);
        else add(out, r->trim[role] ? trimmed(slice_of(m[i].content)) : slice_of(m[i].content));
        size_t end = out->len;
        close_with(c, r->close[role], out);
        if (role != AA_CHAT_ASSISTANT || !o->answers) continue;
        const char *mark = aa_chat_end(c);
        bool marked = mark && !out->failed && strncmp(out->data + end, mark, strlen(mark)) == 0;
        o->answers[o->n_answers++] = (aa_span){at, end + (marked ? strlen(mark) : 0)};
    }
    if (o->answer) aa_text_add(out, c->answer);
    return aa_text_status(out, err);
}
