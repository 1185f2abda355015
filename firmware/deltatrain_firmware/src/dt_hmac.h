/* HMAC-SHA-256 (RFC 2104, FIPS 180-4) of short messages, and the comparison that goes with it. No state, no tables in RAM. */
#ifndef DT_HMAC_H
#define DT_HMAC_H

#include <stdint.h>

#define DT_HASH_BYTES 32

/* SHA-256 of bytes[n]; `hash` may not overlap them. About 300 bytes of stack, the next 450. */
void dt_sha256(const uint8_t *bytes, uint32_t n, uint8_t hash[DT_HASH_BYTES]);

/* HMAC-SHA-256 of bytes[n] by a key of any length; `mac` may not overlap them. */
void dt_hmac(const uint8_t *key, uint32_t key_bytes, const uint8_t *bytes, uint32_t n, uint8_t mac[DT_HASH_BYTES]);

/* Whether a[n] equals b[n]. It takes the same time wherever they differ. */
int dt_equal(const uint8_t *a, const uint8_t *b, uint32_t n);

#endif
