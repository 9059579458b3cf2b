/* convert, private: what the readers of adapters share. */
#ifndef AA_CONVERT_ADAPTER_INT_H
#define AA_CONVERT_ADAPTER_INT_H

#include "convert/adapter.h"
#include "convert/convert_int.h"

#define AA__PEFT_CONFIG "adapter_config.json"
#define AA__PEFT_WEIGHTS "adapter_model.safetensors"
#define AA__PEFT_PREFIX "base_model.model."
#define AA__BASE_DIGEST "base_digest"      /* key of our metadata */

/* a is zeroed and has its path; what was opened until a failure is closed by aa_adapter_close. */
aa_status aa__peft_open(aa_adapter *a, aa_err *err) AA_MUST_USE;
aa_status aa__adapter_gguf_open(aa_adapter *a, aa_err *err) AA_MUST_USE;
aa_status aa__sidecar_open(aa_adapter *a, aa_err *err) AA_MUST_USE;

/* Whether a GGUF file says that it is an adapter. */
bool aa__gguf_is_adapter(const char *path);
#define AA__SIDECAR_MAGIC "AROL"

/* Adds a row of that name, n bytes and then end, for which a->rows has room. */
aa_status aa__adapter_add(aa_adapter *a, const char *name, size_t n, const char *end,
                          aa_adapter_row **out, aa_err *err) AA_MUST_USE;
static inline bool aa__ends_with(const char *s, size_t n, const char *end) {
    size_t m = strlen(end);
    return n >= m && memcmp(s + n - m, end, m) == 0;
}
/* The table of an untied model: it has every row that an adapter may name. Heap. */
aa_status aa__base_rows(const aa_config *base, aa_tensor **out, size_t *n, aa_err *err) AA_MUST_USE;

#endif
