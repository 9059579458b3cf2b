/* ane/exec: runs MIL programs with the arithmetic of a Neural Engine, on the CPU.
 *
 * Values are floats that hold what the engine stores, binary16; operations compute in floats
 * and rounds once, to nearest even.
 *
 * FAST: products are sums of floats, in the order of num/num.h, rounded once; those of two terms
 * and more become infinite from 32768 on. No result is NaN: what is indeterminate is +0, a NaN that
 * comes in is +inf, -0 comes out as +0, log(0) is -45440.
 * FAITHFUL: as FAST, and terms of products are added to each other in fours, rounded to binary16
 * each time, the fours as floats; their operands lose subnormals up to M2; reduce_sum is a running
 * sum in binary16; sigmoid is 33 knots and straight lines between them, and so is what is made of
 * it; a slice that begins inside the last axis makes values beyond 4094 infinite up to M2. Slow.
 * Source: measurements by sbryngelson/ane-guide and maderix/mil-hwx-compiler. What is not published
 * is not modelled: tables of tanh, gelu and exp, rounding of sums on M5, subnormals on M3 and M4.
 */
#ifndef AA_ANE_EXEC_H
#define AA_ANE_EXEC_H

#include "ane/check.h"
#include "num/num.h"

typedef enum { AA_EXEC_FAST, AA_EXEC_FAITHFUL } aa_exec_mode;
typedef struct aa_exec aa_exec;

/* The function, its program, and cpu must outlive it. Constants are read now: files as in check.h,
 * needed if there are weights in files. What this cannot run is AA_EUNSUPPORTED, naming the
 * operation and its line. cpu must multiply floats. */
aa_status aa_exec_new(aa_exec **out, const aa_mil_func *f, const aa_ane_chip *chip,
                      aa_exec_mode mode, const aa_ane_files *files, aa_cpu *cpu,
                      aa_err *err) AA_MUST_USE;
void aa_exec_free(aa_exec *e);
size_t aa_exec_bytes(const aa_exec *e);          /* of values and constants */

/* inputs[i]: input i, packed row-major, in the type of the port; outputs alike. No memory is taken.
 */
void aa_exec_run(aa_exec *e, const void *const *inputs, void *const *outputs);

#endif
