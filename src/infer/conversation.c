/* A conversation is rendered anew for every answer, since some templates change what was said
 * before (a system prompt moves, thoughts vanish). Usually the new text begins with the old one and
 * its answer, and then their ids stay as they were read and drawn: encoding an answer again could
 * give others. The cut is safe where a special token follows. */
#include "infer/infer.h"

#include <string.h>
#include "base/memory.h"

struct aa_conversation {
    aa_session *session;
    const aa_chat *chat;
    char *date;
    aa_chat_message *message; /* contents are ours */
    size_t n, capacity;
    aa_text text; /* of the last prompt and its answer */
    aa_ids ids;   /* of that text */
};

static size_t n_system(const aa_conversation *c) {
    return c->n && c->message[0].role == AA_CHAT_SYSTEM;
}

static aa_status push(aa_conversation *c, aa_chat_role role, const char *text, aa_err *err) {
    char *content = aa_heap_strdup(text);
    if (content && c->n == c->capacity) {
        size_t more = c->capacity ? 2 * c->capacity : 16;
        aa_chat_message *m = aa_heap_realloc(c->message, more, sizeof *m);
        if (m) c->message = m, c->capacity = more;
    }
    if (!content || c->n == c->capacity) {
        aa_heap_free(content);
        return aa_fail_memory(err, "a message", strlen(text));
    }
    c->message[c->n++] = (aa_chat_message){role, content};
    return AA_OK;
}

/* Forgets count messages from `at` on. */
static void forget(aa_conversation *c, size_t at, size_t count) {
    for (size_t i = at; i < at + count; i++) aa_heap_free((char *)(uintptr_t)c->message[i].content);
    memmove(c->message + at, c->message + at + count,
            (c->n - at - count) * sizeof *c->message);
    c->n -= count;
}

static void forget_text(aa_conversation *c) {
    aa_text_clear(&c->text);
    c->ids.len = 0;
}

aa_status aa_conversation_reset(aa_conversation *c, const char *system, aa_err *err) {
    size_t keep = system ? 0 : n_system(c);
    if (c->n > keep) forget(c, keep, c->n - keep);
    forget_text(c);
    return system && *system ? push(c, AA_CHAT_SYSTEM, system, err) : AA_OK;
}

aa_status aa_conversation_new(aa_conversation **out, aa_session *s, const aa_chat *chat,
                              const char *system, const char *date, aa_err *err) {
    aa_conversation *c = aa_heap_alloc(1, sizeof *c);
    if (!c) return aa_fail_memory(err, "a conversation", sizeof *c);
    c->session = s;
    c->chat = chat;
    c->date = date ? aa_heap_strdup(date) : NULL;
    aa_status st = date && !c->date ? aa_fail_memory(err, "a conversation", 0)
                                    : aa_conversation_reset(c, system, err);
    if (st) aa_conversation_free(c);
    else *out = c;
    return st;
}

void aa_conversation_free(aa_conversation *c) {
    if (!c) return;
    forget(c, 0, c->n);
    aa_heap_free(c->message);
    aa_heap_free(c->date);
    aa_text_release(&c->text);
    aa_ids_release(&c->ids);
    aa_heap_free(c);
}

size_t aa_conversation_length(const aa_conversation *c) { return c->n; }

/* ---- prompts --------------------------------------------------------------------------------- */

static aa_status encode(const aa_conversation *c, const char *text, size_t n, aa_ids *ids,
                        aa_err *err) {
    return aa_encode(c->session->tokenizer, text, n, AA_ENCODE_SPECIALS, ids, err);
}

/* c->text and c->ids become those of the prompt for the next answer. */
static aa_status make_prompt(aa_conversation *c, aa_err *err) {
    aa_chat_options o = {.answer = true, .date = c->date};
    const char *end = aa_chat_end(c->chat);
    aa_text text = {0};
    aa_status st = aa_chat_render(c->chat, c->message, c->n, &o, &text, err);
    size_t old = c->text.len;
    bool goes_on = !st && old && end && text.len > old &&
                   memcmp(text.data, c->text.data, old) == 0 &&
                   strncmp(text.data + old, end, strlen(end)) == 0;
    if (!goes_on) old = c->ids.len = 0;
    if (!st) st = encode(c, text.data + old, text.len - old, &c->ids, err);
    aa_text_release(&c->text);
    c->text = text;
    return st;
}

/* Ids at the beginning of the prompt that are there for any messages: the system prompt. */
static size_t n_constant(const aa_conversation *c) {
    const aa_chat_message m[2] = {c->message[0], {AA_CHAT_USER, ""}};
    aa_chat_options o = {.date = c->date};
    aa_text text = {0};
    aa_ids ids = {0};
    size_t n = 0;
    /* Where it is printed only together with a message, the message is an empty one. */
    bool alone = n_system(c) && aa_chat_render(c->chat, m, 1, &o, &text, NULL) == AA_OK &&
                 text.data && strstr(text.data, m[0].content);
    aa_status st = AA_OK;
    if (!alone) {
        aa_text_clear(&text);
        st = aa_chat_render(c->chat, n_system(c) ? m : m + 1, n_system(c) ? 2 : 1, &o, &text, NULL);
    }
    if (!st && text.len) st = encode(c, text.data, text.len, &ids, NULL);
    while (!st && n < ids.len && n < c->ids.len && ids.data[n] == c->ids.data[n]) n++;
    aa_text_release(&text);
    aa_ids_release(&ids);
    return n;
}

/* A prompt that leaves room for an answer. */
static aa_status fit_prompt(aa_conversation *c, size_t max_tokens, aa_err *err) {
    size_t most = c->session->kv.capacity, room = most / 4 < max_tokens ? most / 4 : max_tokens;
    for (;;) {
        AA_TRY(make_prompt(c, err));
        size_t first = n_system(c);
        if (c->ids.len + room <= most) return AA_OK;
        if (c->n - first < 3) break;
        forget(c, first, 2);
        forget_text(c);
    }
    if (c->ids.len < most) return AA_OK;
    return aa_fail(err, AA_EUSAGE,
                   "the message takes %zu tokens with its surroundings, the context holds %zu; "
                   "shorten it, or ask for a longer --context",
                   c->ids.len, most);
}

/* ---- answers --------------------------------------------------------------------------------- */

static aa_status add_ids(aa_ids *to, const aa_ids *from, aa_err *err) {
    int32_t *data = aa_heap_realloc(to->data, to->len + from->len + 1, sizeof *data);
    if (!data) return aa_fail_memory(err, "token ids", (to->len + from->len) * sizeof *data);
    to->data = data;
    to->capacity = to->len + from->len + 1;
    if (from->len) memcpy(data + to->len, from->data, from->len * sizeof *data);
    to->len += from->len;
    return AA_OK;
}

/* The answer becomes a message, and a part of the text that goes on. After a stop text there are
 * ids of more than the text, so then it does not. */
static aa_status remember(aa_conversation *c, const aa_generated *made, aa_err *err) {
    const char *text = made->text.data ? made->text.data : "";
    AA_TRY(push(c, AA_CHAT_ASSISTANT, aa_chat_answer(c->chat, text), err));
    aa_text_add(&c->text, text);
    AA_TRY(aa_text_status(&c->text, err));
    AA_TRY(add_ids(&c->ids, &made->ids, err));
    if (made->reason == AA_STOP_TEXT) forget_text(c);
    return AA_OK;
}

aa_status aa_conversation_say(aa_conversation *c, const char *text, const aa_generation *g,
                              aa_generated *out, aa_err *err) {
    int32_t end_ids[2];
    aa_generation mine = *g;
    aa_generated made = {0};
    mine.end_ids = end_ids;
    mine.n_end_ids = aa_chat_end_ids(c->chat, c->session->tokenizer, end_ids);
    AA_TRY(push(c, AA_CHAT_USER, text, err));
    aa_status st = fit_prompt(c, g->max_tokens, err);
    if (!st) {
        mine.keep = n_constant(c);
        st = aa_generate_ids(c->session, c->ids.data, c->ids.len, &mine, &made, err);
    }
    if (!st) st = add_ids(&made.prompt_ids, &c->ids, err);
    if (!st) st = remember(c, &made, err);
    if (st) {
        size_t said = c->message[c->n - 1].role == AA_CHAT_ASSISTANT ? 2 : 1;
        forget(c, c->n - said, said);
        forget_text(c);
        aa_generated_release(&made);
    } else *out = made;
    return st;
}
