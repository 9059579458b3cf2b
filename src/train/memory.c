#include "train/memory.h"

/* A measured model has no rows to look at: the table without memory stands in for them. */
static aa_status layout_optim(aa_train_memory *m, const aa_config *c, const aa_optim_options *optim,
                              const aa_lora *lora, aa_err *err) {
    aa_tensor *rows = m->model.tensors;
    if (rows) return aa_optim_init(&m->optim, optim, rows, m->model.n_tensors, &m->run, err);
    rows = aa_heap_alloc(m->model.n_tensors, sizeof *rows);
    if (!rows) return aa_fail_memory(err, "the parameter table", 0);
    aa_model_lora_rows(c, lora, rows, m->model.n_tensors);
    aa_status st = aa_optim_init(&m->optim, optim, rows, m->model.n_tensors, &m->run, err);
    aa_heap_free(rows);
    return st;
}

static aa_status layout(aa_train_memory *m, const aa_config *c, const aa_optim_options *optim,
                        const aa_train_shape *s, aa_cpu *cpu, aa_err *err) {
    AA_TRY(aa_model_init_lora(&m->model, c, s->lora, s->parts, s->T, cpu, &m->run, err));
    const size_t B = s->B > s->micro_B ? s->B : s->micro_B;
    if (s->parts & AA_MODEL_GRADS) AA_TRY(aa_model_lookup_init(&m->model, B * s->T, &m->run, err));
    if (s->parts & AA_MODEL_GRADS && optim) AA_TRY(layout_optim(m, c, optim, s->lora, err));
    m->ids = aa_arena_new(&m->run, int32_t, B * s->T);
    m->targets = aa_arena_new(&m->run, int32_t, B * s->T);
    m->loss = aa_arena_new(&m->run, aa_real, B * s->T);
    m->start = aa_arena_new(&m->run, int32_t, B * s->T + B);
    m->batch = aa_arena_new(&m->run, aa_batch, B);
    m->eval_ids = aa_arena_new(&m->run, int32_t, s->micro_B * s->T);
    m->eval_targets = aa_arena_new(&m->run, int32_t, s->micro_B * s->T);
    AA_TRY(aa_arena_status(&m->run, err));
    return aa_activations_new(&m->activations, &m->model, s->pass, s->micro_B, s->T, s->head_rows,
                              &m->step, err);
}

static aa_status measure(aa_train_memory *m, const aa_config *c, const aa_optim_options *optim,
                         const aa_train_shape *s, aa_cpu *cpu, aa_err *err) {
    *m = (aa_train_memory){0};
    aa_arena_init_measure(&m->run, "run");
    aa_arena_init_measure(&m->step, "step");
    return layout(m, c, optim, s, cpu, err);
}

aa_status aa_train_memory_init(aa_train_memory *m, const aa_config *c,
                               const aa_optim_options *optim, const aa_train_shape *shape,
                               aa_cpu *cpu, bool measure_only, aa_err *err) {
    AA_TRY(measure(m, c, optim, shape, cpu, err));
    if (measure_only) return AA_OK;
    size_t run_bytes = m->run.used_bytes, step_bytes = m->step.used_bytes;
    *m = (aa_train_memory){0};
    aa_arena_init(&m->run, "run");
    aa_arena_init(&m->step, "step");
    aa_status st = aa_arena_reserve(&m->run, run_bytes, err);
    if (!st) st = aa_arena_reserve(&m->step, step_bytes, err);
    if (!st) st = layout(m, c, optim, shape, cpu, err);
    if (st) aa_train_memory_release(m);
    return st;
}

void aa_train_memory_release(aa_train_memory *m) {
    aa_arena_release(&m->run);
    aa_arena_release(&m->step);
    *m = (aa_train_memory){0};
}

void aa_train_memory_begin(aa_train_memory *m) {
    int block = aa_optim_begin(&m->optim);
    if (block >= 0) aa_model_choose_block(&m->model, block);
}

aa_optim_options aa_train_optim_options(const aa_train_options *o) {
    return (aa_optim_options){.kind = o->optimizer, .beta1 = o->beta1, .beta2 = o->beta2,
                              .eps = o->eps, .weight_decay = o->weight_decay, .clip = o->clip,
                              .embed_factor = o->embed_lr, .lora_b_factor = o->lora_plus,
                              .muon_factor = o->lr > 0 ? o->muon_lr / o->lr : 1,
                              .muon_momentum = o->muon_momentum,
                              .muon_steps = (int)o->muon_steps,
                              .seed = (uint64_t)o->seed,
                              .block_updates = (uint64_t)o->block_updates};
}

aa_train_shape aa_train_shape_of(const aa_plan *p, const aa_job *job) {
    return (aa_train_shape){.B = p->B, .micro_B = p->micro_B, .T = p->T, .head_rows = p->head_rows,
                            .parts = p->parts, .pass = p->pass, .lora = job->lora};
}
