/*
 * libFuzzer harness of the frames: whatever the bytes, the decoder tells what a decoder written as plainly as the page
 * has it does, and what is sent arrives. Layout of an input: capacity, bytes of the line.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dt_frame.h"
#include "dt_protocol.h"

#define MOST_BYTES 4096u

#define REQUIRE(condition)                                                                                                \
    do {                                                                                                                  \
        if (!(condition)) {                                                                                               \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                      \
            abort();                                                                                                      \
        }                                                                                                                 \
    } while (0)

typedef struct {
    uint8_t bytes[MOST_BYTES + MOST_BYTES / 128u + 16u];
    uint32_t n;
} wire_t;

/* CRC-32 bit by bit. */
static uint32_t plain_crc(const uint8_t *bytes, uint32_t n)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (uint32_t i = 0; i < 8u * n; i++) {
        const uint32_t bit = (crc ^ (uint32_t)(bytes[i / 8u] >> (i % 8u))) & 1u;
        crc = (crc >> 1) ^ (bit ? 0xEDB88320u : 0u);
    }
    return ~crc;
}

/* What stood between two delimiters: its bytes before the CRC, or why there are none; as dt_decoder_push tells it. */
static int32_t plain_decode(const uint8_t *bytes, uint32_t n, uint8_t *body, uint32_t capacity)
{
    uint32_t length = 0, at = 0;
    while (at < n) {
        const uint32_t code = bytes[at++];
        const uint32_t held = code - 1u > n - at ? n - at : code - 1u;
        for (uint32_t i = 0; i < held; i++, at++) {
            if (length == capacity) {
                return DT_ERR_OVERSIZE;
            }
            body[length++] = bytes[at];
        }
        if (held != code - 1u) {
            return DT_ERR_FRAME;
        }
        if (code != 255u && at < n) {
            if (length == capacity) {
                return DT_ERR_OVERSIZE;
            }
            body[length++] = 0;
        }
    }
    if (length < DT_HEADER_BYTES + DT_CRC_BYTES) {
        return DT_ERR_FRAME;
    }
    length -= DT_CRC_BYTES;
    uint32_t crc = 0;
    for (uint32_t i = 0; i < DT_CRC_BYTES; i++) {
        crc |= (uint32_t)body[length + i] << (8u * i);
    }
    return crc == plain_crc(body, length) ? (int32_t)length : DT_ERR_FRAME;
}

static void gather(void *context, const uint8_t *bytes, uint32_t n)
{
    wire_t *wire = context;
    REQUIRE(wire->n + n <= sizeof wire->bytes);
    memcpy(wire->bytes + wire->n, bytes, n);
    wire->n += n;
}

/* Every frame of bytes[n] is told as plain_decode tells it. */
static void decode(const uint8_t *bytes, uint32_t n, uint32_t capacity)
{
    uint8_t *buffer = malloc(capacity), *expected = malloc(capacity);
    dt_decoder_t decoder;
    dt_decoder_init(&decoder, buffer, capacity);
    uint32_t start = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t crc = 0;
        const int32_t told = dt_decoder_push(&decoder, bytes[i], &crc);
        REQUIRE(decoder.length <= capacity);
        if (bytes[i] != 0) {
            REQUIRE(told == 0);
            continue;
        }
        const int32_t right = i == start ? 0 : plain_decode(bytes + start, i - start, expected, capacity);
        REQUIRE(told == right);
        REQUIRE(told <= 0 || (memcmp(buffer, expected, (size_t)told) == 0 && crc == plain_crc(expected, (uint32_t)told)));
        start = i + 1u;
    }
    free(buffer);
    free(expected);
}

/* bytes[n] as the body of a frame. */
static void encode(const uint8_t *bytes, uint32_t n)
{
    static wire_t wire;
    uint8_t *body = malloc(n + DT_CRC_BYTES), *back = malloc(n + DT_CRC_BYTES);
    memcpy(body, bytes, n);
    wire.n = 0;
    dt_frame_send(body, n, gather, &wire);
    REQUIRE(wire.bytes[0] == 0 && wire.bytes[wire.n - 1u] == 0 && memchr(wire.bytes + 1, 0, wire.n - 2u) == NULL);
    REQUIRE(plain_decode(wire.bytes + 1, wire.n - 2u, back, n + DT_CRC_BYTES) == (int32_t)n);
    REQUIRE(memcmp(back, bytes, n) == 0);
    decode(wire.bytes, wire.n, n + DT_CRC_BYTES);
    free(body);
    free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    if (n == 0 || n > MOST_BYTES) {
        return 0;
    }
    decode(bytes + 1, (uint32_t)n - 1u, 1u + bytes[0]);
    if (n > DT_HEADER_BYTES) {
        encode(bytes + 1, (uint32_t)n - 1u);
    }
    return 0;
}
