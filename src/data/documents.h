/* data/documents: the walk over a source that tokens.h promises,
 * with its progress. Private to data. */
#ifndef AA_DATA_DOCUMENTS_H
#define AA_DATA_DOCUMENTS_H

#include "base/json.h"
#include "data/chat.h"
#include "data/tokens.h"

/* A text, all of which is learned; or an example, of which spans are. */
typedef struct aa__document {
    const char *text; size_t n;
    bool example, ends;                      /* ends: eos follows, and is learned */
    unsigned flags;                          /* aa_encode_flags */
    const aa_span *learned; size_t n_learned;
    aa_digest digest;                        /* of what an example says; of a text not set */
} aa__document;
typedef aa_status aa__document_fn(void *ctx, const aa__document *d, aa_err *err);

typedef struct aa__walk {
    aa__document_fn *fn; void *ctx;
    uint64_t done_bytes, total_bytes;        /* of the files, kept up to date for fn */
    uint64_t n_documents;
    const aa_tokenizer *tokenizer;           /* NULL: examples are what is said in them */
    const char *chat_template; bool learn_all;
    aa_chat *chat;                           /* made for the first conversation; the caller's */
} aa__walk;

aa_status aa__documents_walk(aa__walk *w, const char *path, aa_err *err) AA_MUST_USE;
/* A row of JSONL that is a conversation, or a prompt and its completion (example.c). where: file
 * and line. */
aa_status aa__example(aa__walk *w, const json_t *o, const char *where, aa_err *err) AA_MUST_USE;
/* Documents of one text in memory, by the rules for text files. */
aa_status aa__documents_text(aa__walk *w, const char *text, size_t n, aa_err *err) AA_MUST_USE;

/* Gives each part its due (see aa_part_of). smallest and largest are indices of documents by
 * digest; when *n is 1 a second row is made, so both arrays have room for one more document than
 * *n. */
void aa__parts_settle(uint64_t *document, uint8_t *part, uint64_t *n, uint64_t smallest,
                      uint64_t largest);

#endif
