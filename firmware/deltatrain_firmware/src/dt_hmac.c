#include "dt_hmac.h"

#include <string.h>

#define BLOCK_BYTES 64u
#define LENGTH_BYTES 8u        /* at the end of the last block: the message's bits */
#define INNER_PAD 0x36u
#define OUTER_PAD 0x5Cu

/* A hash under way. */
typedef struct {
    uint32_t h[8];
    uint32_t n;                /* bytes so far */
    uint8_t block[BLOCK_BYTES];
} hash_t;

/* First 32 bits of the fractional parts of the cube roots of the first 64 primes. */
static const uint32_t round_constants[64] = {
    0x428a2f98u, 0x71374491u, 0xb5c0fbcfu, 0xe9b5dba5u, 0x3956c25bu, 0x59f111f1u, 0x923f82a4u, 0xab1c5ed5u,
    0xd807aa98u, 0x12835b01u, 0x243185beu, 0x550c7dc3u, 0x72be5d74u, 0x80deb1feu, 0x9bdc06a7u, 0xc19bf174u,
    0xe49b69c1u, 0xefbe4786u, 0x0fc19dc6u, 0x240ca1ccu, 0x2de92c6fu, 0x4a7484aau, 0x5cb0a9dcu, 0x76f988dau,
    0x983e5152u, 0xa831c66du, 0xb00327c8u, 0xbf597fc7u, 0xc6e00bf3u, 0xd5a79147u, 0x06ca6351u, 0x14292967u,
    0x27b70a85u, 0x2e1b2138u, 0x4d2c6dfcu, 0x53380d13u, 0x650a7354u, 0x766a0abbu, 0x81c2c92eu, 0x92722c85u,
    0xa2bfe8a1u, 0xa81a664bu, 0xc24b8b70u, 0xc76c51a3u, 0xd192e819u, 0xd6990624u, 0xf40e3585u, 0x106aa070u,
    0x19a4c116u, 0x1e376c08u, 0x2748774cu, 0x34b0bcb5u, 0x391c0cb3u, 0x4ed8aa4au, 0x5b9cca4fu, 0x682e6ff3u,
    0x748f82eeu, 0x78a5636fu, 0x84c87814u, 0x8cc70208u, 0x90befffau, 0xa4506cebu, 0xbef9a3f7u, 0xc67178f2u,
};

/* Likewise of the square roots of the first 8. */
static const uint32_t first_hash[8] = {
    0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au, 0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u,
};

static uint32_t rotated(uint32_t x, uint32_t by)
{
    return x >> by | x << (32u - by);
}

/* FIPS 180-4, 6.2.2, with 16 words of the schedule at a time. */
static void compress(uint32_t h[8], const uint8_t block[BLOCK_BYTES])
{
    uint32_t w[16], v[8];
    for (uint32_t t = 0; t < 16; t++) {
        const uint8_t *at = &block[4u * t];
        w[t] = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
    }
    memcpy(v, h, sizeof v);
    for (uint32_t t = 0; t < 64; t++) {
        if (t >= 16) {
            const uint32_t w15 = w[(t - 15u) % 16u], w2 = w[(t - 2u) % 16u];
            w[t % 16u] += (rotated(w15, 7) ^ rotated(w15, 18) ^ w15 >> 3) + w[(t - 7u) % 16u]
                          + (rotated(w2, 17) ^ rotated(w2, 19) ^ w2 >> 10);
        }
        const uint32_t a = v[0], e = v[4];
        const uint32_t t1 = v[7] + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + ((e & v[5]) ^ (~e & v[6]))
                            + round_constants[t] + w[t % 16u];
        const uint32_t t2 = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22))
                            + ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
        memmove(&v[1], &v[0], 7u * sizeof v[0]);
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (uint32_t i = 0; i < 8; i++) {
        h[i] += v[i];
    }
}

static void start(hash_t *hash)
{
    memcpy(hash->h, first_hash, sizeof hash->h);
    hash->n = 0;
}

static void add(hash_t *hash, const uint8_t *bytes, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        hash->block[hash->n++ % BLOCK_BYTES] = bytes[i];
        if (hash->n % BLOCK_BYTES == 0) {
            compress(hash->h, hash->block);
        }
    }
}

static void finish(hash_t *hash, uint8_t out[DT_HASH_BYTES])
{
    static const uint8_t one_bit[1] = {0x80}, zero[1] = {0};
    const uint64_t n_bits = 8u * (uint64_t)hash->n;
    add(hash, one_bit, 1);
    while (hash->n % BLOCK_BYTES != BLOCK_BYTES - LENGTH_BYTES) {
        add(hash, zero, 1);
    }
    uint8_t length[LENGTH_BYTES];
    for (uint32_t i = 0; i < LENGTH_BYTES; i++) {
        length[i] = (uint8_t)(n_bits >> (8u * (LENGTH_BYTES - 1u - i)));
    }
    add(hash, length, LENGTH_BYTES);
    for (uint32_t i = 0; i < DT_HASH_BYTES; i++) {
        out[i] = (uint8_t)(hash->h[i / 4u] >> (8u * (3u - i % 4u)));
    }
}

void dt_sha256(const uint8_t *bytes, uint32_t n, uint8_t hash[DT_HASH_BYTES])
{
    hash_t under_way;
    start(&under_way);
    add(&under_way, bytes, n);
    finish(&under_way, hash);
}

/* The hash of the padded key, its bytes each XORed with `pad`, and of bytes[n]. */
static void padded(const uint8_t key[BLOCK_BYTES], uint8_t pad, const uint8_t *bytes, uint32_t n,
                   uint8_t out[DT_HASH_BYTES])
{
    hash_t hash;
    start(&hash);
    for (uint32_t i = 0; i < BLOCK_BYTES; i++) {
        const uint8_t byte = key[i] ^ pad;
        add(&hash, &byte, 1);
    }
    add(&hash, bytes, n);
    finish(&hash, out);
}

void dt_hmac(const uint8_t *key, uint32_t key_bytes, const uint8_t *bytes, uint32_t n, uint8_t mac[DT_HASH_BYTES])
{
    uint8_t block[BLOCK_BYTES] = {0}, inner[DT_HASH_BYTES];
    if (key_bytes > BLOCK_BYTES) {
        dt_sha256(key, key_bytes, block);
    } else {
        memcpy(block, key, key_bytes);
    }
    padded(block, INNER_PAD, bytes, n, inner);
    padded(block, OUTER_PAD, inner, sizeof inner, mac);
}

int dt_equal(const uint8_t *a, const uint8_t *b, uint32_t n)
{
    volatile uint8_t different = 0; /* volatile: no compiler may leave the loop early */
    for (uint32_t i = 0; i < n; i++) {
        different |= (uint8_t)(a[i] ^ b[i]);
    }
    return different == 0;
}
