/* ane/mil, private: what builder and parser share. */
#ifndef AA_ANE_MIL_INT_H
#define AA_ANE_MIL_INT_H

#include "ane/mil.h"

/* A copy in the program's arena; NULL, and the program failed, without memory. */
void *aa__mil_alloc(aa_mil_program *p, size_t count, size_t size);
const char *aa__mil_text(aa_mil_program *p, const char *s, size_t n);
/* Of the program: the first mistake stays. */
#define aa__mil_fail(p, ...) \
    do { if (!(p)->err.code) (void)aa_fail(&(p)->err, AA_EFORMAT, __VA_ARGS__); } while (0)

/* Whether it has at most AA_MIL_MAX_ELEMENTS; the product of axes alone could overflow. */
bool aa__mil_fits(const aa_mil_type *t);
/* fp16, fp32 and bf16; all others hold whole numbers. */
bool aa__mil_real(aa_mil_dtype t);
/* The variable of this name, or -1. */
int aa__mil_find(const aa_mil_func *f, const char *name, size_t n);
/* A new variable; the name must be free. -1 after a failure. */
int aa__mil_var(aa_mil_func *f, const char *name, const aa_mil_type *type, int op);
aa_mil_arg *aa__mil_arg(aa_mil_func *f, const char *key, int n_vars);
/* Puts f->pending, whose results are there, behind the others. */
void aa__mil_append(aa_mil_func *f);
void aa__mil_add_output(aa_mil_func *f, int var);

#endif
