/* data/documents: the walk over a source that tokens.h promises,
 * with its progress. Private to data. */
#ifndef AA_DATA_DOCUMENTS_H
#define AA_DATA_DOCUMENTS_H

#include "data/tokens.h"

typedef struct aa__walk {
    aa_document_fn *fn; void *ctx;
    uint64_t done_bytes, total_bytes;        /* of the files, kept up to date for fn */
    uint64_t n_documents;
} aa__walk;

aa_status aa__documents_walk(aa__walk *w, const char *path, aa_err *err) AA_MUST_USE;
/* Documents of one text in memory, by the rules for text files. */
aa_status aa__documents_text(aa__walk *w, const char *text, size_t n, aa_err *err) AA_MUST_USE;

/* Gives each part its due (see aa_part_of). smallest and largest are indices of documents by
 * digest; when *n is 1 a second row is made, so both arrays have room for one more document than
 * *n. */
void aa__parts_settle(uint64_t *document, uint8_t *part, uint64_t *n, uint64_t smallest,
                      uint64_t largest);

#endif
