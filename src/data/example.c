/* data/example: rows of JSONL that say what is to be learned.
 *
 *     {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}
 *     {"prompt": "...", "completion": "..."}
 *
 * A conversation becomes the text of the model's chat template, of which the assistant's turns are
 * learned, each with the token that ends it. A prompt and its completion are one text, of which the
 * completion is learned, and eos. A row out of which nothing could be learned is an error.
 *
 * Without a tokenizer (a text to train one on is wanted) a row is what is said in it.
 */
#include <string.h>
#include "base/memory.h"
#include "data/documents.h"

typedef struct reader {
    aa__walk *walk;
    const char *where;
    aa_chat_message *message;
    aa_span *learned;
    size_t n;                              /* messages */
    aa_text said, text;                    /* all contents; what is tokenized */
} reader;

static bool is_empty(const char *s) { return s[strspn(s, " \t\r\n")] == 0; }

static const char *const roles[] = {"system", "user", "assistant"};

static aa_status read_role(const reader *r, const json_t *o, aa_chat_role *out, aa_err *err) {
    const char *role = json_string_value(json_object_get(o, "role"));
    for (int k = 0; role && k < 3; k++)
        if (strcmp(role, roles[k]) == 0) {
            *out = (aa_chat_role)k;
            return AA_OK;
        }
    return aa_fail(err, AA_EFORMAT,
                   "%s: message %zu has %s%s%s; a \"role\" is system, user or assistant", r->where,
                   r->n + 1, role ? "the role '" : "no role", role ? role : "", role ? "'" : "");
}

/* Perhaps system, then user and assistant in turn, the last an assistant. */
static aa_status check_turn(const reader *r, aa_chat_role role, aa_err *err) {
    aa_chat_role before = r->n ? r->message[r->n - 1].role : AA_CHAT_SYSTEM;
    bool right = role == AA_CHAT_SYSTEM  ? r->n == 0
                 : role == AA_CHAT_USER  ? before != AA_CHAT_USER
                                         : before == AA_CHAT_USER;
    if (right) return AA_OK;
    return aa_fail(err, AA_EFORMAT,
                   "%s: message %zu is of %s after %s; user and assistant speak in turn, before "
                   "them at most one system message",
                   r->where, r->n + 1, roles[role], r->n ? roles[before] : "nothing");
}

static aa_status read_message(reader *r, const json_t *o, aa_err *err) {
    aa_chat_message *m = &r->message[r->n];
    AA_TRY(read_role(r, o, &m->role, err));
    AA_TRY(check_turn(r, m->role, err));
    m->content = json_string_value(json_object_get(o, "content"));
    if (!m->content)
        return aa_fail(err, AA_EFORMAT, "%s: message %zu has no \"content\" that is a string",
                       r->where, r->n + 1);
    if (m->role == AA_CHAT_ASSISTANT && is_empty(m->content))
        return aa_fail(err, AA_EFORMAT, "%s: message %zu, of assistant, is empty: there is "
                       "nothing to learn", r->where, r->n + 1);
    aa_text_add_bytes(&r->said, m->content, strlen(m->content));
    aa_text_add(&r->said, "\n");
    r->n++;
    return AA_OK;
}

static aa_status open_chat(aa__walk *w, const char *where, aa_err *err) {
    if (w->chat) return AA_OK;
    aa_err why = {0};
    aa_status st = aa_chat_new(&w->chat, w->chat_template, w->tokenizer, &why);
    if (st == AA_ENOTFOUND)
        return aa_fail(err, AA_EUSAGE,
                       "%s: a conversation becomes text by a model's chat template, and there is "
                       "none: give a --base that has one, or --template FILE", where);
    if (st == AA_EUNSUPPORTED)
        return aa_fail(err, st,
                       "%s: the chat template is none of those known (ChatML, Qwen 2 to 3, "
                       "SmolLM2, Llama 3, Mistral, Zephyr), so what it makes of a conversation is "
                       "not known; --template FILE gives another one", where);
    return st ? aa_fail(err, st, "%s: %s", where, why.message) : AA_OK;
}

static aa_status hand_out(reader *r, unsigned flags, bool ends, size_t n_learned, aa_err *err) {
    aa__walk *w = r->walk;
    const aa_text *t = w->tokenizer ? &r->text : &r->said;
    aa_span all = {0, t->len};
    aa__document d = {.text = t->data,
                      .n = t->len,
                      .example = true,
                      .flags = flags,
                      .ends = ends,
                      .learned = w->learn_all ? &all : r->learned,
                      .n_learned = w->learn_all ? 1 : n_learned};
    AA_TRY(aa_text_status(&r->said, err));
    d.digest = aa_digest_bytes(r->said.data, r->said.len);
    w->n_documents++;
    return w->fn(w->ctx, &d, err);
}

static aa_status conversation(reader *r, const json_t *list, aa_err *err) {
    size_t n = json_array_size(list);
    if (!n)
        return aa_fail(err, AA_EFORMAT, "%s: \"messages\" must be an array of messages", r->where);
    r->message = aa_heap_alloc(n, sizeof *r->message);
    r->learned = aa_heap_alloc(n, sizeof *r->learned);
    if (!r->message || !r->learned) return aa_fail_memory(err, "messages", n * 32);
    for (size_t i = 0; i < n; i++) AA_TRY(read_message(r, json_array_get(list, i), err));
    if (r->message[n - 1].role != AA_CHAT_ASSISTANT)
        return aa_fail(err, AA_EFORMAT,
                       "%s: the last message is of %s; a conversation ends with the answer that is "
                       "to be learned", r->where, roles[r->message[n - 1].role]);
    if (!r->walk->tokenizer) return hand_out(r, 0, false, 0, err);
    AA_TRY(open_chat(r->walk, r->where, err));
    aa_chat_options o = {.answers = r->learned};
    aa_err why = {0};
    aa_status st = aa_chat_render(r->walk->chat, r->message, n, &o, &r->text, &why);
    if (st) return aa_fail(err, st, "%s: %s", r->where, why.message);
    return hand_out(r, AA_ENCODE_SPECIALS, false, o.n_answers, err);
}

static aa_status completion(reader *r, const json_t *o, aa_err *err) {
    const char *prompt = json_string_value(json_object_get(o, "prompt")),
               *said = json_string_value(json_object_get(o, "completion"));
    if (!prompt || !said)
        return aa_fail(err, AA_EFORMAT, "%s: \"prompt\" and \"completion\" must both be there, and "
                       "be strings", r->where);
    if (!*said)
        return aa_fail(err, AA_EFORMAT, "%s: the completion is empty: there is nothing to learn",
                       r->where);
    r->learned = aa_heap_alloc(1, sizeof *r->learned);
    if (!r->learned) return aa_fail_memory(err, "an example", sizeof *r->learned);
    *r->learned = (aa_span){strlen(prompt), strlen(prompt) + strlen(said)};
    aa_text_add(&r->text, prompt);
    aa_text_add(&r->text, said);
    AA_TRY(aa_text_status(&r->text, err));
    aa_text_add(&r->said, prompt);
    aa_text_add(&r->said, "\n");
    aa_text_add(&r->said, said);
    return hand_out(r, AA_ENCODE_BOS, true, 1, err);
}

aa_status aa__example(aa__walk *w, const json_t *o, const char *where, aa_err *err) {
    reader r = {.walk = w, .where = where};
    const json_t *messages = json_object_get(o, "messages");
    aa_status st = messages ? conversation(&r, messages, err) : completion(&r, o, err);
    aa_heap_free(r.message);
    aa_heap_free(r.learned);
    aa_text_release(&r.said);
    aa_text_release(&r.text);
    return st;
}
