/* data/story: an endless, seeded corpus of small stories from a weighted grammar.
 *
 * The grammar is context-free with features (character, gender, object, place ... chosen once and
 * agreed upon later), finite, and *unambiguous*: a text has one derivation, which the recogniser
 * finds. So the probability of a story under the generator is a product along that derivation, and
 * the surprisal of a validation text is exact: the floor a model's loss can be read against.
 *
 * Stories are plain English for small children: a character wants, meets, loses, learns; cause and
 * effect agree; people talk. At least 10^12 distinct stories (the count is computed and tested).
 */
#ifndef AA_DATA_STORY_H
#define AA_DATA_STORY_H

#include "base/rng.h"
#include "base/text.h"

/* Appends story number n of a seed, ending in one newline, with no blank line inside. */
void aa_story_write(aa_text *out, uint64_t seed, uint64_t n);
/* log2 of the number of distinct stories the grammar can make, and the entropy of one in bits. */
double aa_story_log2_count(void);
double aa_story_entropy_bits(void);
/* Exact surprisal in bits of one story's text: -log2 P(text). AA_EFORMAT with the byte offset where
 * the text stops being a story. The final newline may be missing. */
aa_status aa_story_surprisal(const char *text, size_t n, double *out_bits, aa_err *err) AA_MUST_USE;
/* The same, summed, for a text of whole stories as in a corpus: a story is a line, empty lines are
 * skipped. Offsets in messages count from the start of text. *n_stories may be NULL. */
aa_status aa_story_corpus_surprisal(const char *text, size_t n, double *out_bits, size_t *n_stories,
                                    aa_err *err) AA_MUST_USE;
/* A corpus: stories first..first+count-1, separated by a blank line. */
void aa_story_corpus(aa_text *out, uint64_t seed, uint64_t first, uint64_t count);

#endif
