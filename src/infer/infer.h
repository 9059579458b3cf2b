/* infer: from a model to text.
 *
 * Owns a loaded model with its tokenizer, KV cache and the sampling of next tokens: prefill in one
 * pass, then one token at a time; stop strings; streaming that never cuts a UTF-8 character; and
 * conversations. Knows no files but through convert/source.h, prints nothing.
 */
#ifndef AA_INFER_INFER_H
#define AA_INFER_INFER_H

#include "convert/source.h"
#include "data/chat.h"
#include "model/model.h"

/* ---- a model ready to run -------------------------------------------------------------------- */

typedef struct aa_session {
    aa_model *model;
    aa_backend backend;
    const aa_tokenizer *tokenizer;
    aa_cpu *cpu;
    aa_kv kv;
    aa_activations *activations;    /* of at most chunk rows: a longer prompt takes several passes*/
    size_t chunk;
    aa_real *logits;                /* [V] after the last token read */
    aa_arena arena;
    int32_t *history;               /* [capacity + 1] model ids read and drawn */
    void *scratch;                  /* of aa_sample */
    struct aa_session_owned *owned; /* what aa_session_open made; NULL when borrowed */
    const int32_t *active_ids;      /* compact vocabulary, or NULL */
    const int32_t *compact_map;
    const char *chat_template;      /* Jinja, of the model's file; NULL: none */
} aa_session;

typedef struct aa_session_options {
    size_t capacity;                /* positions of the KV cache, 0 = the model's seq */
    bool half_kv;                   /* keys and values in binary16: half the memory */
    const char *adapter;            /* path of one to run beside the weights, or NULL */
} aa_session_options;

/* Opens a model (run directory, checkpoint directory, model file) for generation and evaluation, on
 * its weights where they lie in the file if that holds every row. An adapter, or a run of one, is
 * opened with the base that it names. */
aa_status aa_session_open_with(aa_session *out, const char *path, aa_cpu *cpu,
                               const aa_session_options *options, aa_err *err) AA_MUST_USE;
aa_status aa_session_open(aa_session *out, const char *path, aa_cpu *cpu, size_t capacity,
                          aa_err *err) AA_MUST_USE;
/* A session over a model that is being trained (borrowed; weights may change between generations).
 * capacity at most the model's n_pos. With a compact vocabulary, active_ids maps the model's ids to
 * the tokenizer's, compact_map the tokenizer's (all its vocabulary) to the model's, -1 for none. */
aa_status aa_session_init(aa_session *out, aa_model *m, const aa_tokenizer *t, aa_cpu *cpu,
                          size_t capacity, const int32_t *active_ids, const int32_t *compact_map,
                          aa_err *err) AA_MUST_USE;
void aa_session_close(aa_session *s);
/* Starts over with a prompt: its ids (special tokens recognised, bos as the tokenizer says; an
 * empty prompt is bos or eos) are appended to *ids, and s->logits is what follows the last one. */
aa_status aa_session_read(aa_session *s, const char *prompt, aa_ids *ids, aa_err *err) AA_MUST_USE;

/* ---- sampling -------------------------------------------------------------------------------- */

typedef struct aa_sampling {   /* zero-initialise, then aa_sampling_defaults */
    double temperature;        /* 0 = greedy (ties: lowest id) */
    int64_t top_k;             /* 0 = off */
    double top_p, min_p;       /* 1 / 0 = off; min_p relative to the best token */
    double repetition_penalty; /* 1 = off; over the last repetition_window tokens */
    int64_t repetition_window;
    uint64_t seed;
} aa_sampling;

/* 0.8, top_k 40, top_p 0.95, min_p 0, penalty 1, window 64, seed 0 */
void aa_sampling_defaults(aa_sampling *s);

/* Order: repetition penalty (Keskar et al. 2019), temperature, top_k, top_p, min_p, draw. logits is
 * scratch; NaN counts as -inf. Equal logits rank by id, lowest first; top_p keeps the smallest set
 * that reaches it, of what top_k left. recent: the tokens so far, newest last, of which the window
 * counts. index: number of this draw in the sequence (counter-based: the same seed gives the same
 * text). scratch: aligned as from aa_heap_alloc. */
int32_t aa_sample(const aa_sampling *s, aa_real *logits, size_t V, const int32_t *recent,
                  size_t n_recent, uint64_t index, void *scratch);
size_t aa_sample_scratch_bytes(size_t V);

/* ---- generation ------------------------------------------------------------------------------ */

typedef struct aa_generation {
    size_t max_tokens;         /* new tokens at most */
    const char *const *stop;   /* n_stop texts that end the generation and are not part of it */
    size_t n_stop;
    bool ignore_eos;
    bool shift;                /* what a full context does: see aa_generate */
    size_t keep;               /* tokens of the beginning that a shift leaves where they are */
    const int32_t *end_ids;    /* n_end_ids tokens that end the generation like eos */
    size_t n_end_ids;
    aa_sampling sampling;
    /* Called with whole characters as they become certain (not part of a possible stop text);
     * NULL: none. Returning false stops. */
    bool (*on_text)(void *ctx, const char *text, size_t n);
    void *ctx;
} aa_generation;

typedef enum {
    AA_STOP_LENGTH,
    AA_STOP_EOS,
    AA_STOP_TEXT,
    AA_STOP_CALLER,
    AA_STOP_CONTEXT
} aa_stop_reason;

typedef struct aa_generated {  /* release with aa_generated_release */
    aa_ids prompt_ids, ids;    /* ids of the tokenizer (full vocabulary); an eos that ended the
                                  generation is not among them */
    aa_text text;              /* of ids, without the stop text */
    aa_stop_reason reason;
    double prefill_s, decode_s;   /* decode_s covers ids.len - 1 tokens after the first */
} aa_generated;

/* The prompt is encoded with special tokens; an empty prompt starts from bos/eos. A prompt longer
 * than the context is an error that says both lengths; when the context is full the generation goes
 * on with what is kept of its beginning and the last half of the rest (shift), or ends
 * (AA_STOP_CONTEXT). */
aa_status aa_generate(aa_session *s, const char *prompt, const aa_generation *g, aa_generated *out,
                      aa_err *err) AA_MUST_USE;
/* The prompt as the tokenizer's ids. The session's weights have not changed since it read last, so
 * what the cache holds of the prompt's beginning is not read again. prompt_ids stays empty. */
aa_status aa_generate_ids(aa_session *s, const int32_t *ids, size_t n, const aa_generation *g,
                          aa_generated *out, aa_err *err) AA_MUST_USE;
void aa_generated_release(aa_generated *g);

/* ---- conversations --------------------------------------------------------------------------- */

/* Messages and answers in the form of a chat template. Of each turn only what is new is read. When
 * the context is full the oldest question and answer are forgotten, the system prompt is not. */
typedef struct aa_conversation aa_conversation;

/* s and chat are borrowed; system may be NULL; date is that of aa_chat_options. */
aa_status aa_conversation_new(aa_conversation **out, aa_session *s, const aa_chat *chat,
                              const char *system, const char *date, aa_err *err) AA_MUST_USE;
void aa_conversation_free(aa_conversation *c);
/* All but the system prompt is forgotten; system: a new one, or NULL: as it was. */
aa_status aa_conversation_reset(aa_conversation *c, const char *system, aa_err *err) AA_MUST_USE;
/* Says the user's text and lets the model answer, which becomes part of the conversation even if it
 * was stopped. keep and end_ids of g are the conversation's to set. After a failure nothing was
 * said. out->prompt_ids are those of the whole conversation. */
aa_status aa_conversation_say(aa_conversation *c, const char *text, const aa_generation *g,
                              aa_generated *out, aa_err *err) AA_MUST_USE;
/* Messages that are remembered, the system prompt among them. */
size_t aa_conversation_length(const aa_conversation *c);

#endif
