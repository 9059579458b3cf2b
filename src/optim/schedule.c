/* optim/schedule: the learning rate as a function of the used fraction of the budget.
 *
 * The fraction, not a step count, drives it: a run limited by time cools down exactly to its end.
 *
 *     warm-up   lr * fraction/warmup, never below lr/100 (the first update should do something)
 *     wsd       lr, then over the last `cooldown` of the budget linearly to min_lr
 *     cosine    half a cosine from lr after the warm-up to min_lr at the end
 *     constant  lr
 */
#include <math.h>
#include "optim/optim.h"

static double clamp01(double x) { return x > 0 ? x < 1 ? x : 1 : 0; }

double aa_schedule_lr(const aa_schedule *s, double fraction) {
    const double pi = 3.14159265358979323846;
    double f = clamp01(fraction), left = 1;      /* left: how much of lr - min_lr remains */

    if (f < s->warmup) return s->lr * fmax(f / s->warmup, 0.01);
    if (s->kind == AA_SCHEDULE_WSD && f > 1 - s->cooldown) left = (1 - f) / s->cooldown;
    if (s->kind == AA_SCHEDULE_COSINE && s->warmup < 1)
        left = 0.5 * (1 + cos(pi * (f - s->warmup) / (1 - s->warmup)));
    return s->min_lr + left * (s->lr - s->min_lr);
}
