/* The rows of `autoane train`: one per field of aa_train_options. They are the command line, the
 * config file, the help, the journal's record and the space that a search may explore. */
#include <math.h>
#include <string.h>
#include "train/train.h"

#define AT(field) offsetof(aa_train_options, field)
#define MAX_DIM 65536
#define ADAPTER_LR 5e-4

const aa_opt aa_train_rows[] = {
    {"data", "data", AA_OPT_STRING, AT(data), NULL, 0, 0, 0, "FILE|DIR|stories",
     "text, JSONL (texts, conversations, prompts with completions), directory or token file; "
     "'stories' generates a corpus"},
    {"tokenizer", "data", AA_OPT_STRING, AT(tokenizer), "auto", 0, 0, 0, "FILE|train:N|bytes|auto",
     "tokenizer.json to use, or train one with N ids; auto fits the text"},
    {"compact-vocab", "data", AA_OPT_BOOL, AT(compact_vocab), "no", 0, 0, 0, NULL,
     "train only the ids that occur in the data (for a large foreign tokenizer)"},
    {"train-on", "data", AA_OPT_CHOICE, AT(train_on), "assistant", 0, 0, 0, "assistant|all",
     "what is learned of a conversation or a prompt with its completion: the answers, or all"},
    {"template", "data", AA_OPT_STRING, AT(template), NULL, 0, 0, 0, "FILE",
     "Jinja chat template for conversations, instead of the base's"},
    {"packing", "data", AA_OPT_BOOL, AT(packing), "yes", 0, 0, 0, NULL,
     "fill windows with whole examples, each a sequence of its own; no: one a window"},
    {"out", "data", AA_OPT_STRING, AT(out), "runs/run", 0, 0, 0, "DIR", "run directory to create"},

    {"preset", "model", AA_OPT_STRING, AT(preset), "micro", 0, 0, 0, "NAME",
     "start from a named model shape (`autoane info presets` lists them), or let the budget, this "
     "machine and the text choose one: auto"},
    {"base", "model", AA_OPT_STRING, AT(base), NULL, 0, 0, 0, "MODEL",
     "start from the weights, shape and tokenizer of an existing model"},
    {"arch", "model", AA_OPT_CHOICE, AT(model.arch), NULL, 0, 0, 0, "llama|qwen2|qwen3",
     "model family"},
    {"dim", "model", AA_OPT_INT, AT(model.dim), NULL, 1, MAX_DIM, AA_SCALE_LOG, "N",
     "width of the model"},
    {"layers", "model", AA_OPT_INT, AT(model.layers), NULL, 1, 1024, AA_SCALE_LINEAR, "N",
     "number of blocks"},
    {"heads", "model", AA_OPT_INT, AT(model.heads), NULL, 1, 1024, AA_SCALE_LINEAR, "N",
     "query heads"},
    {"kv-heads", "model", AA_OPT_INT, AT(model.kv_heads), NULL, 1, 1024, AA_SCALE_LINEAR, "N",
     "key/value heads; divides heads (GQA)"},
    {"head-dim", "model", AA_OPT_INT, AT(model.head_dim), NULL, 2, 1024, AA_SCALE_NONE, "N",
     "width of a head; dim/heads if not given"},
    {"ffn", "model", AA_OPT_INT, AT(model.ffn), NULL, 1, 4 * MAX_DIM, AA_SCALE_LOG, "N",
     "width of the feed-forward part"},
    {"vocab", "model", AA_OPT_INT, AT(model.vocab), NULL, 2, 4194304, AA_SCALE_NONE, "N",
     "vocabulary; normally the tokenizer decides"},
    {"seq", "model", AA_OPT_INT, AT(model.seq), NULL, 1, 1048576, AA_SCALE_LOG, "N",
     "training window in tokens"},
    {"tied", "model", AA_OPT_BOOL, AT(model.tied), NULL, 0, 0, 0, NULL,
     "share embedding and output head"},
    {"head-rank", "model", AA_OPT_INT, AT(model.head_rank), NULL, 0, MAX_DIM, AA_SCALE_LOG, "N",
     "numbers per row of the head for rare ids (128, say: fewer FLOP); 0: whole rows"},
    {"head-full", "model", AA_OPT_INT, AT(model.head_full), NULL, 0, 4194304, AA_SCALE_LOG, "N",
     "with head-rank: so many of the most frequent ids keep whole rows; 0: 2000"},
    {"qkv-bias", "model", AA_OPT_BOOL, AT(model.qkv_bias), NULL, 0, 0, 0, NULL,
     "biases on q, k, v"},
    {"qk-norm", "model", AA_OPT_BOOL, AT(model.qk_norm), NULL, 0, 0, 0, NULL,
     "RMSNorm on each q and k head"},
    {"rope-theta", "model", AA_OPT_REAL, AT(model.rope_theta), NULL, 1, 1e12, AA_SCALE_LOG, "X",
     "base of the rotary frequencies"},
    {"norm-eps", "model", AA_OPT_REAL, AT(model.norm_eps), NULL, 1e-12, 1e-1, AA_SCALE_NONE, "X",
     "epsilon of RMSNorm"},
    {"residual-scale", "model", AA_OPT_REAL, AT(model.residual_scale), NULL, 1e-3, 10, AA_SCALE_LOG,
     "X", "factor on each block's two branches"},
    {"init", "model", AA_OPT_CHOICE, AT(init), "zero-out", 0, 0, AA_SCALE_LINEAR, "scaled|zero-out",
     "initial output projections: scaled by 1/sqrt(2 layers), or zero"},

    {"budget", "training", AA_OPT_AMOUNT, AT(budget), "120s", 0, 1e30, 0, "AMOUNT",
     "how long: 120s, 10m, 500steps, 2Mtok, 1e13flop or 3epochs"},
    {"batch-tokens", "training", AA_OPT_INT, AT(batch_tokens), "512", 1, 1e9, AA_SCALE_LOG, "N",
     "tokens per update"},
    {"micro-batch", "training", AA_OPT_INT, AT(micro_batch), "0", 0, 1e9, AA_SCALE_NONE, "N",
     "tokens per pass; 0: as many as fit. Never changes the result"},
    {"lr", "training", AA_OPT_REAL, AT(lr), "0", 0, 10, AA_SCALE_LOG, "X",
     "peak learning rate; 0: by width"},
    {"min-lr", "training", AA_OPT_REAL, AT(min_lr), "0", 0, 10, AA_SCALE_NONE, "X",
     "learning rate at the end"},
    {"warmup", "training", AA_OPT_REAL, AT(warmup), "0.03", 0, 1, AA_SCALE_LINEAR, "FRACTION",
     "share of the budget for linear warm-up"},
    {"schedule", "training", AA_OPT_CHOICE, AT(schedule), "wsd", 0, 0, AA_SCALE_LINEAR,
     "wsd|cosine|constant", "learning rate over the budget"},
    {"cooldown", "training", AA_OPT_REAL, AT(cooldown), "0.5", 0, 1, AA_SCALE_LINEAR, "FRACTION",
     "wsd: share of the budget for the linear decay at the end"},
    {"optimizer", "training", AA_OPT_CHOICE, AT(optimizer), "adamw", 0, 0, 0,
     "adamw|muon|sgd|apollo-mini|badam",
     "update rule; muon: of the blocks' matrices, the rest by adamw; in little memory: apollo-mini "
     "(those matrices with moments of one row), badam (adamw of one block at a time)"},
    {"block-updates", "training", AA_OPT_INT, AT(block_updates), "50", 1, 1e9, AA_SCALE_LOG, "N",
     "badam: updates until the next block"},
    {"embed-lr", "training", AA_OPT_REAL, AT(embed_lr), "0", 0, 100, AA_SCALE_LOG, "FACTOR",
     ("on the learning rate of the embedding (and of a head tied to it); 0: 4, with --base or "
      "sgd 1")},
    {"muon-lr", "training", AA_OPT_REAL, AT(muon_lr), "0.01", 0, 10, AA_SCALE_LOG, "X",
     "peak learning rate of the matrices that muon updates"},
    {"muon-momentum", "training", AA_OPT_REAL, AT(muon_momentum), "0.95", 0, 0.9999,
     AA_SCALE_LINEAR, "X", "momentum of muon"},
    {"muon-steps", "training", AA_OPT_INT, AT(muon_steps), "3", 1, AA_ORTHOGONAL_MAX_STEPS,
     AA_SCALE_LINEAR, "N", "Newton-Schulz steps of muon; the paper has 5, per FLOP 3 learn more"},
    {"weight-decay", "training", AA_OPT_REAL, AT(weight_decay), "0.1", 0, 10, AA_SCALE_LOG, "X",
     "decoupled decay of matrices; never of norms and biases"},
    {"beta1", "training", AA_OPT_REAL, AT(beta1), "0.9", 0, 0.99999, AA_SCALE_LINEAR, "X",
     "first moment (momentum)"},
    {"beta2", "training", AA_OPT_REAL, AT(beta2), "0.99", 0, 0.999999, AA_SCALE_LINEAR, "X",
     "second moment"},
    {"eps", "training", AA_OPT_REAL, AT(eps), "1e-8", 1e-16, 1, AA_SCALE_NONE, "X",
     "epsilon of AdamW"},
    {"clip", "training", AA_OPT_REAL, AT(clip), "1", 0, 1e6, AA_SCALE_NONE, "X",
     "global gradient norm; 0: off"},
    {"compute", "training", AA_OPT_CHOICE, AT(compute), "f32", 0, 0, 0, "f32|bf16|auto",
     "operands of linear maps; auto: bf16 where the processor has it"},
    {"method", "training", AA_OPT_CHOICE, AT(method), "backprop", 0, 0, 0, "backprop|zo",
     "how a direction is found: by backpropagation, or by differences of losses (zeroth order)"},
    {"checkpointing", "training", AA_OPT_CHOICE, AT(checkpointing), "auto", 0, 0, 0, "auto|yes|no",
     "run blocks forward a second time in backward instead of keeping them; auto: if memory asks"},
    {"device", "training", AA_OPT_CHOICE, AT(device), "cpu", 0, 0, 0, "cpu|blas",
     "who multiplies: our kernels, or a BLAS library of this machine"},

    {"adapter", "adapter", AA_OPT_CHOICE, AT(adapter), "none", 0, 0, AA_SCALE_LINEAR,
     "none|lora|dora",
     "train low-rank terms on a frozen --base, which stays in its file; dora: and lengths of rows"},
    {"rank", "adapter", AA_OPT_INT, AT(rank), "8", 1, AA_LORA_MAX_RANK, AA_SCALE_LOG, "N",
     "rank of the terms"},
    {"alpha", "adapter", AA_OPT_REAL, AT(alpha), "0", 0, 1e6, AA_SCALE_LOG, "X",
     "their scale is alpha/rank; 0: twice the rank"},
    {"rslora", "adapter", AA_OPT_BOOL, AT(rslora), "no", 0, 0, 0, NULL,
     "scale by alpha/sqrt(rank)"},
    {"targets", "adapter", AA_OPT_STRING, AT(targets), "q,k,v,o,gate,up,down", 0, 0, 0, "LIST",
     "linear maps that get a term"},
    {"rank-pattern", "adapter", AA_OPT_STRING, AT(rank_pattern), NULL, 0, 0, 0, "LIST",
     "other ranks: down=16,3.q=0 is rank 16 on every down and none on q of block 3"},
    {"lora-plus", "adapter", AA_OPT_REAL, AT(lora_plus), "1", 0.001, 1000, AA_SCALE_LOG, "FACTOR",
     "on the learning rate of B (LoRA+)"},
    {"lora-dropout", "adapter", AA_OPT_REAL, AT(lora_dropout), "0", 0, 0.99, AA_SCALE_NONE, "P",
     "drop that share of what the terms see; not with dora"},
    {"freeze-a", "adapter", AA_OPT_BOOL, AT(freeze_a), "no", 0, 0, 0, NULL,
     "train B alone (LoRA-FA)"},
    {"train-norms", "adapter", AA_OPT_BOOL, AT(train_norms), "no", 0, 0, 0, NULL,
     "train the gains of norms as well"},
    {"train-tables", "adapter", AA_OPT_STRING, AT(train_tables), NULL, 0, 0, 0, "LIST",
     "train whole token tables as well: embedding, head"},

#define OPT(key, type, field, init, lo, hi, scale, choices, help)                                  \
    {key, "zeroth order", AA_OPT_##type, AT(zo.field), init, lo, hi, AA_SCALE_##scale, choices,    \
     help},
#include "zo/options.def"

    {"objective", "zeroth order", AA_OPT_CHOICE, AT(objective), "loss", 0, 0, 0,
     "loss|accuracy|exact-match|command",
     "what is improved: the loss, the share of tokens greedy sampling would get right, that of "
     "whole answers, or what a program of yours says of texts"},
    {"objective-command", "zeroth order", AA_OPT_STRING, AT(objective_command), NULL, 0, 0, 0,
     "COMMAND", "reads {prompt, text, reference} as JSON, one a line, writes a score for each"},
    {"objective-tokens", "zeroth order", AA_OPT_INT, AT(objective_tokens), "32", 1, 65536, 0, "N",
     "tokens of a text that is judged, at most"},
    {"objective-timeout", "zeroth order", AA_OPT_REAL, AT(objective_timeout), "60", 0.01, 86400, 0,
     "SECONDS", "what the command may take for a step"},
    {"objective-rate", "zeroth order", AA_OPT_REAL, AT(objective_rate), "0", 0, 1e6, 0, "X",
     "starts of the command per second, at most; 0: any"},

    {"seed", "run", AA_OPT_INT, AT(seed), "1", 0, 9e15, 0, "N",
     "initial weights and order of the data"},
    {"threads", "run", AA_OPT_INT, AT(threads), "0", 0, AA_POOL_MAX_THREADS, 0, "N",
     "threads; 0: one per core. Never changes the result"},
    {"blas", "run", AA_OPT_STRING, AT(blas), NULL, 0, 0, 0, "FILE",
     "the library of --device blas; else $AA_BLAS, else the usual names"},
    {"eval-every", "run", AA_OPT_AMOUNT, AT(eval_every), "0", 0, 1e30, 0, "AMOUNT",
     "validate each AMOUNT; a tenth of the budget if not given, 0: only at the end"},
    {"eval-tokens", "run", AA_OPT_INT, AT(eval_tokens), "16384", 1, 1e12, 0, "N",
     "size of the fixed validation set"},
    {"checkpoint-every", "run", AA_OPT_AMOUNT, AT(checkpoint_every), "0", 0, 1e30, 0, "AMOUNT",
     "save each AMOUNT; a fifth of the budget if not given, 0: only at the end"},
    {"keep", "run", AA_OPT_INT, AT(keep), "3", 0, 1e6, 0, "N",
     "checkpoints to keep besides best and last; 0: all"},
    {"log-every", "run", AA_OPT_AMOUNT, AT(log_every), "0", 0, 1e30, 0, "AMOUNT",
     "journal line each AMOUNT; a 200th of the budget if not given"},
    {"sample-every", "run", AA_OPT_AMOUNT, AT(sample_every), "0", 0, 1e30, 0, "AMOUNT",
     "write a sample text each AMOUNT; 0: never"},
    {"sample-prompt", "run", AA_OPT_STRING, AT(sample_prompt), NULL, 0, 0, 0, "TEXT",
     "how samples begin"},
    {0}};

/* An interval that nobody set becomes a share of the budget, in the budget's own unit, so that a
 * run counted in steps or tokens stays a pure function of its options. */
static void settle_interval(aa_opts *opts, const char *key, aa_amount *interval, double share) {
    const aa_train_options *o = opts->values;
    if (aa_opts_from(opts, key) != AA_FROM_DEFAULT) return;
    interval->unit = o->budget.unit;
    interval->value = o->budget.value * share;
    if (interval->unit == AA_UNIT_STEPS || interval->unit == AA_UNIT_TOKENS)
        interval->value = fmax(1, floor(interval->value));
}

/* Best rates of small runs fall about as 1/width (measured: 64 wide 6e-3, 128 2e-3, 256 7e-4,
 * 512 4e-4). */
static double lr_by_width(int64_t dim) { return fmin(2e-3 * 128.0 / (double)dim, 6e-3); }

/* Embeddings want a higher rate than matrices, and one that falls less with width. Measured at
 * 2.25e12 FLOP, bits per byte against factor 1: preset micro, two texts, three seeds each, factor 4
 * -0.04 and -0.09, factor 8 -0.05 and -0.10; preset mini, one seed, 4 -0.06, 8 -0.04; all with
 * AdamW. What was trained before is not to be torn up. */
static double embed_factor(const aa_train_options *o) {
    return o->base || o->optimizer == AA_OPTIM_SGD ? 1 : 4;
}

void aa_train_options_settle(aa_opts *opts, const aa_config *config) {
    aa_train_options *o = opts->values;
    settle_interval(opts, "eval-every", &o->eval_every, 0.1);
    settle_interval(opts, "checkpoint-every", &o->checkpoint_every, 0.2);
    settle_interval(opts, "log-every", &o->log_every, 0.005);
    if (o->lr == 0) o->lr = o->adapter ? ADAPTER_LR : lr_by_width(config->dim);
    if (o->alpha == 0) o->alpha = 2 * (double)o->rank;
    if (o->adapter && aa_opts_from(opts, "weight-decay") == AA_FROM_DEFAULT) o->weight_decay = 0;
    if (o->embed_lr == 0) o->embed_lr = embed_factor(o);
    o->model = *config;
}
