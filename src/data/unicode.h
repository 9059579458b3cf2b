/* data/unicode: UTF-8 read as the pre-tokenizers see it. */
#ifndef AA_DATA_UNICODE_H
#define AA_DATA_UNICODE_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    AA__OTHER, AA__LETTER, AA__NUMBER, AA__SPACE,
    AA__NEW_NUMBER           /* number to the digit splitter, OTHER to regexes: unicode_table.c */
} aa__class;

/* A symbol is a code point, or one byte that is no part of valid UTF-8 (class OTHER). */
typedef struct aa__symbol { uint32_t n_bytes; aa__class class; } aa__symbol;

/* Bytes of the valid code point at p (1..4, value in *code), 0 if p does not start one within n >=
 * 1 bytes: overlong forms, surrogates and values past U+10FFFF are invalid, as in Unicode table
 * 3-7. */
uint32_t aa__utf8_decode(const unsigned char *p, size_t n, uint32_t *code);
aa__class aa__class_of(uint32_t code);
aa__symbol aa__symbol_at_slow(const unsigned char *p, size_t n);

extern const uint8_t aa__ascii_class[128];
static inline aa__symbol aa__symbol_at(const unsigned char *p, size_t n) {
    return *p < 128 ? (aa__symbol){1, (aa__class)aa__ascii_class[*p]} : aa__symbol_at_slow(p, n);
}

extern const uint32_t aa__class_changes[];
extern const size_t aa__n_class_changes;

#endif
