/* base/option: one row per tunable.
 *
 * A table of rows describes a plain struct. The same rows feed the command line (--key value,
 * --key=value, --flag, --no-flag), the config file (ini), --help, the journal's record of the run,
 * the man page and later the search space. Precedence, one direction: row default < config file <
 * command line. All problems of a command line or file are collected (key, where, allowed
 * range, nearest known name) and reported together.
 */
#ifndef AA_BASE_OPTION_H
#define AA_BASE_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"
#include "base/text.h"

typedef enum {
    AA_OPT_INT,      /* int64_t; accepts 64k, 2M (decimal multiples) */
    AA_OPT_REAL,     /* double, finite */
    AA_OPT_BOOL,     /* bool; yes/no/true/false/1/0, or bare --key / --no-key */
    AA_OPT_STRING,   /* char *, heap-owned by the struct; may be NULL */
    AA_OPT_CHOICE,   /* int; names in `choices` separated by '|' */
    AA_OPT_AMOUNT    /* aa_amount; 120s 2m 1h 500steps 2Mtok 1e13flop 3epochs 0 (= never) */
} aa_opt_type;

typedef enum { AA_UNIT_NONE, AA_UNIT_SECONDS, AA_UNIT_STEPS, AA_UNIT_TOKENS, AA_UNIT_FLOP,
               AA_UNIT_EPOCHS } aa_unit;
typedef struct aa_amount { double value; aa_unit unit; } aa_amount;

/* NONE: not searchable. */
typedef enum { AA_SCALE_NONE, AA_SCALE_LINEAR, AA_SCALE_LOG } aa_opt_scale;

typedef struct aa_opt {
    const char *key;          /* "kv-heads": also the config key */
    const char *group;        /* heading in --help: "model", "training", ... */
    aa_opt_type type;
    size_t at;                /* offsetof in the struct */
    const char *init;         /* default as text, parsed by the same code; NULL = 0/NULL */
    double lo, hi;            /* inclusive bounds for INT, REAL and the value of AMOUNT */
    aa_opt_scale scale;
    const char *choices; /* CHOICE: "a|b|c"; otherwise the placeholder shown in help ("FILE") */
    const char *help;         /* one line */
} aa_opt;

typedef enum { AA_FROM_DEFAULT, AA_FROM_FILE, AA_FROM_COMMAND } aa_opt_origin;

/* rows end with key == NULL; from[] has one entry per row (may be NULL). */
typedef struct aa_opts { const aa_opt *rows; void *values; uint8_t *from; } aa_opts;

size_t aa_opts_count(const aa_opt *rows);
/* Sets the defaults. */
aa_status aa_opts_init(aa_opts *o, const aa_opt *rows, void *values, aa_err *err) AA_MUST_USE;
void aa_opts_release(aa_opts *o);                        /* frees strings and from */
/* Sets one value. `where` ("command line", "run.ini:12") goes into the message appended to
 * `problems` (one line each); a set from a lower origin never overrides a higher one.
 * Returns false if a problem was added. */
bool aa_opts_set(aa_opts *o, const char *key, const char *value, aa_opt_origin from,
                 const char *where, aa_text *problems);
/* Parses argv. Words that are not options go to positional (at most max); "--" ends the options. */
aa_status aa_opts_args(aa_opts *o, int argc, char **argv, const char **positional, int max,
                       int *n_positional, aa_text *problems, aa_err *err) AA_MUST_USE;
/* How many words the option argv[0] takes, its value included; 1 for any other word. */
int aa_opts_words(const aa_opt *rows, int argc, char *const *argv);
/* Lines `key = value`, `[group]`, or comments after ; or #. A comment may follow a value after a
 * blank. A value in double quotes keeps everything, with \\ \" \n \r \t as escapes. */
aa_status aa_opts_read_ini(aa_opts *o, const char *path, aa_text *problems,
                           aa_err *err) AA_MUST_USE;
aa_opt_origin aa_opts_from(const aa_opts *o, const char *key);
/* Complete, grouped, with help as comments; read_ini gives the same values back. */
void aa_opts_write_ini(const aa_opts *o, aa_text *out);
void aa_opts_write_json(const aa_opts *o, aa_text *out); /* {"key":value,...} */
/* The other way, of text: every row must be there (null: it stays as it is), other keys are passed
 * over. name: of what holds the text. */
aa_status aa_opts_read_json(aa_opts *o, const char *text, size_t n, const char *name,
                            aa_err *err) AA_MUST_USE;
void aa_opts_help(const aa_opt *rows, aa_text *out, int width);
/* Nearest known name by edit distance (<= 3), or NULL. */
const char *aa_nearest(const char *word, const char *(*name)(const void *table, size_t i),
                       const void *table, size_t n);

bool aa_amount_parse(const char *s, aa_amount *out);     /* whole string or false */

#endif
