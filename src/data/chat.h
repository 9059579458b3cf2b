/* data/chat: conversations as the text that a chat model was trained on.
 *
 * A model brings its format as a Jinja template. There is no Jinja here: the template is brought
 * into one canonical spelling, and a row that knows its output expressions renders what it would
 * render, byte for byte. A template that no row knows is refused; the remedy is `--raw`.
 *
 *     qwen3     ChatML with <think> blocks, of which only those after the last question stay
 *     chatml    Qwen 2 and 2.5, SmolLM2, and plain ChatML; the default system prompt is read from
 *               the template
 *     llama3.1  Llama 3.1 to 3.3, with their preamble of dates
 *     llama3
 *     mistral-v1, -v2, -v3    [INST]; they differ in spaces and in where a system prompt goes
 *     zephyr    Zephyr, TinyLlama
 *     raw       no format: messages and answers, a line each
 *
 * Only system, user and assistant messages; no tools.
 */
#ifndef AA_DATA_CHAT_H
#define AA_DATA_CHAT_H

#include "data/tokenizer.h"

typedef enum { AA_CHAT_SYSTEM, AA_CHAT_USER, AA_CHAT_ASSISTANT } aa_chat_role;
typedef struct aa_chat_message { aa_chat_role role; const char *content; } aa_chat_message;

typedef struct aa_chat aa_chat;

/* jinja NULL: AA_ENOTFOUND, the model has no template. Unknown: AA_EUNSUPPORTED. The tokenizer
 * (copied from, not kept) gives the texts of bos and eos. */
aa_status aa_chat_new(aa_chat **out, const char *jinja, const aa_tokenizer *t,
                      aa_err *err) AA_MUST_USE;
aa_status aa_chat_new_raw(aa_chat **out, const aa_tokenizer *t, aa_err *err) AA_MUST_USE;
void aa_chat_free(aa_chat *c);
const char *aa_chat_name(const aa_chat *c);
/* The text that ends an answer ("<|im_end|>", ...; perhaps that of eos), or NULL: none does. */
const char *aa_chat_end(const aa_chat *c);
/* The ids that end an answer: eos, and that of the end text where it is a token; how many. */
size_t aa_chat_end_ids(const aa_chat *c, const aa_tokenizer *t, int32_t ids[2]);

/* The message that is printed as this answer: some templates put a space before it. */
const char *aa_chat_answer(const aa_chat *c, const char *text);

typedef struct aa_chat_options {
    bool answer;                 /* end with what comes before the next answer */
    const char *date;            /* "26 Jul 2024": what templates that ask for the date get */
    /* [messages] or NULL: the bytes of what the model is to say, with the text that ends it: one
     * for each assistant message, n_answers of them. */
    aa_span *answers; size_t n_answers;
} aa_chat_options;

/* Appends the conversation. To be encoded with AA_ENCODE_SPECIALS and without AA_ENCODE_BOS: the
 * text has the bos the template wants. What the template raises an exception for is AA_EUSAGE. */
aa_status aa_chat_render(const aa_chat *c, const aa_chat_message *messages, size_t n,
                         aa_chat_options *o, aa_text *out, aa_err *err) AA_MUST_USE;

#endif
