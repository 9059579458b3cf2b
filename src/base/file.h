/* base/file: reading whole files, and writing them so that nothing is ever half there. */
#ifndef AA_BASE_FILE_H
#define AA_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>
#include "base/digest.h"
#include "base/status.h"
#include "base/text.h"
#include "sys/sys.h"

/* Read-only mapping with our error texts. */
aa_status aa_map_open(aa_sys_map *out, const char *path, aa_err *err) AA_MUST_USE;

/* A file being written beside its final name. commit() flushes, fsyncs, renames over the target and
 * fsyncs the directory; until then the target is untouched. Write errors are sticky and reported by
 * commit, so writers may ignore them. digest covers every byte in order. What is not committed goes
 * with a process that ends by a signal (aa_sys_end_tidily). */
typedef struct aa_outfile aa_outfile;
aa_status aa_outfile_open(aa_outfile **out, const char *path, aa_err *err) AA_MUST_USE;
void aa_outfile_write(aa_outfile *f, const void *p, size_t n);
uint64_t aa_outfile_size(const aa_outfile *f);
/* Both free f. */
aa_status aa_outfile_commit(aa_outfile *f, aa_digest *out_digest, aa_err *err) AA_MUST_USE;
void aa_outfile_abort(aa_outfile *f);                          /* removes the temporary */
/* Removes from dir the temporaries of writers that were killed, and no others. */
void aa_outfile_sweep(const char *dir);

/* A whole file by the same way. */
aa_status aa_file_write(const char *path, const void *p, size_t n, aa_err *err) AA_MUST_USE;
/* All of a file, with a NUL behind it. Heap-owned. */
aa_status aa_file_text(char **out, const char *path, aa_err *err) AA_MUST_USE;
/* The text as the file dir/name; fails where the text did. */
aa_status aa_file_write_text(const char *dir, const char *name, const aa_text *t,
                             aa_err *err) AA_MUST_USE;
char *aa_path_join(const char *dir, const char *name);         /* heap; NULL when out of memory */
aa_status aa_make_dirs(const char *path, aa_err *err) AA_MUST_USE;

#endif
