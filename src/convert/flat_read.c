/* convert/flat_read: BLZT and llama2.c's model.bin as sources.
 *
 * llama2.c fixes what its files do not say. BLZT leaves it to the program that was compiled for
 * the model, so three things must be known from elsewhere:
 *
 *   a config.json beside   says all, if its sizes are those of the file; convert writes one.
 *   rotary base            else that of the shapes the first AutoANE had headers for, or 10000.
 *   residual scale         else 1 for those shapes, which are pretrained models, and for files that
 *                          were converted and never trained; 1/sqrt(2 layers), with which it
 *                          trained from scratch, for all others.
 *
 * The moments of Adam are passed over: they are half a state, without schedule or position, and
 * zeros unless `train` wrote them.
 */
#include <math.h>
#include <string.h>
#include "base/memory.h"
#include "convert/flat_int.h"

char aa__flat_letter(const aa_tensor *row) {
    static const struct { char letter; const char *name; } all[] = {
        {'E', "model.embed_tokens.weight"}, {'N', "model.norm.weight"}, {'H', "lm_head.weight"},
        {'q', ".self_attn.q_proj.weight"},  {'k', ".self_attn.k_proj.weight"},
        {'v', ".self_attn.v_proj.weight"},  {'o', ".self_attn.o_proj.weight"},
        {'g', ".mlp.gate_proj.weight"},     {'d', ".mlp.down_proj.weight"},
        {'u', ".mlp.up_proj.weight"},       {'a', ".input_layernorm.weight"},
        {'f', ".post_attention_layernorm.weight"}};
    size_t n = strlen(row->name);

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        size_t m = strlen(all[i].name);

        if (n >= m && (row->layer >= 0 || n == m) && strcmp(row->name + n - m, all[i].name) == 0)
            return all[i].letter;
    }
    return 0;
}

size_t aa__flat_paired(const aa_config *c, char letter) {
    return letter == 'q' || letter == 'k' ? (size_t)c->head_dim : 0;
}

char *aa__folder_of(const char *path) {
    const char *slash = strrchr(path, '/');

    return aa_heap_printf("%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
}

/* ---- configuration --------------------------------------------------------------------------- */

static bool same_shape(const aa_config *c, const aa_flat_shape *s) {
    return c->arch == AA_ARCH_LLAMA && c->dim == s->dim && c->ffn == s->ffn &&
           c->layers == s->layers && c->heads == s->heads && c->kv_heads == s->kv_heads &&
           c->head_dim == s->head_dim && c->vocab == s->vocab && c->tied == s->tied &&
           !c->qkv_bias && !c->out_bias && !c->mlp_bias && !c->qk_norm;
}

static aa_status config_beside(aa_source *s, const aa_flat_shape *shape, const char *folder,
                               aa_err *err) {
    aa_config c;
    char *path = aa_path_join(folder, AA__HF_CONFIG);
    aa_status st = path ? aa_hf_config_parse(&c, path, err) : aa_fail_memory(err, "a path", 0);

    if (!st && !same_shape(&c, shape))
        st = aa_fail(err, AA_EFORMAT, "'%s' describes another model than '%s' beside it, which is "
                     "%lld wide with %lld layers, %lld heads (%lld kv) of %lld, ffn %lld, %lld "
                     "ids, tied: put the file elsewhere, or its own config.json beside it", path,
                     s->path,
                     (long long)shape->dim, (long long)shape->layers, (long long)shape->heads,
                     (long long)shape->kv_heads, (long long)shape->head_dim,
                     (long long)shape->ffn, (long long)shape->vocab);
    if (!st) s->config = c;
    aa_heap_free(path);
    return st;
}

/* Its headers of pretrained models: SmolLM2 135M and 360M, Qwen3 0.6B (of whatever vocabulary). */
static void guess(aa_config *c, bool trained) {
    static const struct { int64_t dim, layers, ffn; double theta; } pretrained[] = {
        {576, 30, 1536, 1e5}, {960, 32, 2560, 1e5}, {1024, 28, 3072, 1e6}};

    for (size_t i = 0; i < sizeof pretrained / sizeof *pretrained; i++)
        if (c->dim == pretrained[i].dim && c->layers == pretrained[i].layers &&
            c->ffn == pretrained[i].ffn) {
            c->rope_theta = pretrained[i].theta;
            return;
        }
    if (trained) c->residual_scale = 1 / sqrt(2 * (double)c->layers);
}

static aa_status read_config(aa_source *s, const aa_flat *f, const char *folder, aa_err *err) {
    const aa_flat_shape *h = &f->shape;
    aa_sys_kind beside = AA_SYS_ABSENT;
    aa_err problem = {0};

    s->config = (aa_config){.arch = AA_ARCH_LLAMA, .dim = h->dim, .layers = h->layers,
                            .heads = h->heads, .kv_heads = h->kv_heads, .head_dim = h->head_dim,
                            .ffn = h->ffn, .vocab = h->vocab, .seq = h->seq, .tied = h->tied,
                            .rope_theta = AA__FLAT_THETA, .norm_eps = AA__FLAT_EPS,
                            .residual_scale = 1};
    if (f->kind == AA_FLAT_BLZT) {
        AA_TRY(aa__kind_of(&beside, folder, AA__HF_CONFIG, err));
        if (beside == AA_SYS_FILE) AA_TRY(config_beside(s, h, folder, err));
        else guess(&s->config, f->steps > 0 || f->updates > 0);
    }
    if (aa_config_resolve(&s->config, &problem))
        return aa_fail(err, AA_EFORMAT, "'%s': %s", s->path, problem.message);
    s->full_vocab = (size_t)s->config.vocab;
    return AA_OK;
}

/* ---- the source ------------------------------------------------------------------------------ */

static void flat_close(aa_source *s) {
    aa_flat_close(s->self);
    aa_heap_free(s->self);
    s->self = NULL;
}

static aa_status flat_find(aa_source *s, const aa_tensor *row, aa_stored *out, aa_err *err) {
    const aa_flat *f = s->self;
    aa_flat_place p;
    char letter = aa__flat_letter(row);
    size_t rows = aa__is_by_id(row) ? s->full_vocab : row->rows;

    if (!letter || row->layer >= f->shape.layers ||
        !aa_flat_find(f->kind, &f->shape, letter, row->layer > 0 ? (uint64_t)row->layer : 0, &p))
        return aa_fail(err, AA_ENOTFOUND, "'%s': a %s file has no tensor '%s'", s->path, s->format,
                       row->name);
    if (p.rows != rows || p.cols != row->cols)
        return aa_fail(err, AA_EFORMAT, "'%s': tensor '%s' is [%llu,%llu] by its header, not "
                       "[%zu,%zu]", s->path, row->name, (unsigned long long)p.rows,
                       (unsigned long long)p.cols, rows, row->cols);
    *out = (aa_stored){.type = AA_TYPE_F32, .rows = rows, .cols = row->cols,
                       .data = f->map.data + p.offset,
                       .paired_head = aa__flat_paired(&s->config, letter)};
    return AA_OK;
}

static aa_status flat_tokenizer(aa_source *s, aa_tokenizer **out, aa_err *err) {
    return aa_tokenizer_load(out, s->tokenizer_path, err);
}

/* The first of the files that is there. */
static aa_status find_tokenizer(aa_source *s, const aa_flat *f, const char *folder, aa_err *err) {
    static const char *const names[] = {AA__LLAMA2C_TOKENIZER, AA__HF_TOKENIZER};
    aa_sys_kind kind;

    for (size_t i = f->kind == AA_FLAT_BLZT; i < 2; i++) {
        AA_TRY(aa__kind_of(&kind, folder, names[i], err));
        if (kind != AA_SYS_FILE) continue;
        s->tokenizer_path = aa_path_join(folder, names[i]);
        return s->tokenizer_path ? AA_OK : aa_fail_memory(err, "a path", 0);
    }
    return AA_OK;
}

aa_status aa__flat_open(aa_source *s, const char *path, aa_err *err) {
    aa_flat *f = aa_heap_alloc(1, sizeof *f);
    char *folder = aa__folder_of(path);
    aa_status st = f && folder ? AA_OK : aa_fail_memory(err, "a model source", 0);

    s->self = f;
    s->close = flat_close;
    s->find = flat_find;
    s->mapped = true;
    s->tokenizer = flat_tokenizer;
    if (!st) st = aa_flat_open(f, path, err);
    if (!st) {
        s->format = aa_flat_kind_name(f->kind);
        st = read_config(s, f, folder, err);
    }
    if (!st) st = find_tokenizer(s, f, folder, err);
    if (!st && s->tokenizer_path) st = aa__hf_read_template(s, folder, err);
    aa_heap_free(folder);
    return st;
}
