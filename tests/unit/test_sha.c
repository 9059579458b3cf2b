/* SHA-1 and SHA-256: the examples of FIPS 180-2, the edges of the padding, a million bytes. */
#include "base/sha.h"
#include "support/check.h"

#include <string.h>

static const struct { const char *text, *sha1, *sha256; } known[] = {
    {"", "da39a3ee5e6b4b0d3255bfef95601890afd80709",
     "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "a9993e364706816aba3e25717850c26c9cd0d89d",
     "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
};

static void same(aa_sha_kind kind, const void *p, size_t n, size_t piece, const char *want) {
    aa_sha s;
    char hex[AA_SHA_HEX];
    aa_sha_init(&s, kind);
    for (size_t i = 0; i < n; i += piece)
        aa_sha_add(&s, (const char *)p + i, n - i < piece ? n - i : piece);
    aa_sha_hex(&s, hex);
    assert_string_equal(hex, want);
}

static void known_values(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        for (size_t piece = 1; piece < 70; piece++) {
            same(AA_SHA1, known[i].text, strlen(known[i].text), piece, known[i].sha1);
            same(AA_SHA256, known[i].text, strlen(known[i].text), piece, known[i].sha256);
        }
}

static void a_million(void **state) {
    (void)state;
    static char a[1000000];
    memset(a, 'a', sizeof a);
    same(AA_SHA1, a, sizeof a, 4097, "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
    same(AA_SHA256, a, sizeof a, 4097,
         "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

/* Lengths around a block: what `printf %NNs | sha256sum` and sha1sum say of N blanks. */
static void around_a_block(void **state) {
    (void)state;
    static const struct { size_t n; const char *sha1, *sha256; } blanks[] = {
        {55, "45954e5a7a6882b801893e9080d245e7df939117",
         "cf7549d8bac5733ab715481b3faf0b951877eabfa537676b05bfe8bbc5213133"},
        {56, "03daa315d97fd5a38e4ae0f0f643cadf756eeaef",
         "b60c4c2d565cd1f10eeb0deffdd7b65fdf9d4fd3960868da68e3533159b70bd8"},
        {63, "696b7b87ce4383ed16777c5ee95cb6a481b030f0",
         "b6180de9fcebb5d8e1a4c54e01ccc2ba30db5e89228c71534881fe316f613229"},
        {64, "cb4dd3daca2d6f2544bc0daa6bebb78aed0bd034",
         "ce4153b0147c2a863ed4298ee0676bc879fc77a12abe1f49b2b055df1069523e"},
        {65, "0dd4bbd32183b0587e1ef54af1206a938a28608a",
         "4d2293f11a69207a8af99ff6d77dddc035cf57a71ec65be1e7ad97e316a60360"},
        {119, "6f1ca68bab9781d099651c3ba9103ce388656d5f",
         "ae7bcc8f77efbd9bc36a9f9a82fd4650afd06ee1e87baf98c4c5ab1a7be82a80"},
        {120, "0b0466ddcac1d617da3c2d03850e9deacde1b57d",
         "70e3169667994370e3bf1c4b1ceba293702481131ba987001a5a1720a4706381"},
        {128, "ffb5e5d96e19714ffef60ac8749ecaefbec9d295",
         "c49613f3a24dd8719ecec47eaeb8649cf713ac8145af38a8c297620cc28eb358"},
    };
    char text[130];
    memset(text, ' ', sizeof text);
    for (size_t i = 0; i < sizeof blanks / sizeof *blanks; i++) {
        same(AA_SHA1, text, blanks[i].n, 130, blanks[i].sha1);
        same(AA_SHA256, text, blanks[i].n, 7, blanks[i].sha256);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_values), cmocka_unit_test(a_million),
                                       cmocka_unit_test(around_a_block)};
    return cmocka_run_group_tests_name("unit_sha", tests, NULL, NULL);
}
