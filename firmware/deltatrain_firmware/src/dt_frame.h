/*
 * Frames on a serial line: COBS, so that a zero byte ends each frame and nothing else; CRC-32, so that a damaged one is
 * refused. Decoding goes byte by byte into the caller's buffer; encoding needs none. No I/O, no state but the caller's.
 */
#ifndef DT_FRAME_H
#define DT_FRAME_H

#include <stdint.h>

/* The state of one receiver; buffer and capacity are the caller's, the rest is kept by the functions. */
typedef struct {
    uint8_t *buffer;           /* [capacity]: header, payload and CRC; 4-byte aligned */
    uint32_t capacity;
    uint32_t length;           /* bytes so far */
    int16_t error;             /* why the frame under way is refused: 0 or enum dt_status */
    uint8_t group_left;        /* bytes until the next code byte of COBS */
    uint8_t zero_due;          /* 1: a zero stands between this group and the next */
    uint8_t empty;             /* 1: no byte since the last delimiter */
} dt_decoder_t;

/* Where encoded bytes go. */
typedef void (*dt_write_t)(void *context, const uint8_t *bytes, uint32_t n);

/* CRC-32 of bytes[n] as zlib computes it (IEEE 802.3, reflected, start and final inversion). */
uint32_t dt_crc32(const uint8_t *bytes, uint32_t n);

/* Take a buffer of `capacity` bytes and wait for a frame. */
void dt_decoder_init(dt_decoder_t *decoder, uint8_t *buffer, uint32_t capacity);

/*
 * One byte from the line. Returns 0 while a frame is under way (also for empty frames, which mean nothing); at its end
 * the number of bytes before the CRC, at least DT_HEADER_BYTES, with that CRC in *crc; or DT_ERR_FRAME, DT_ERR_OVERSIZE.
 */
int32_t dt_decoder_push(dt_decoder_t *decoder, uint8_t byte, uint32_t *crc);

/*
 * Send bytes[n] as one frame, between two delimiters. The CRC is written to bytes[n .. n + DT_CRC_BYTES - 1], which
 * must be the caller's too.
 */
void dt_frame_send(uint8_t *bytes, uint32_t n, dt_write_t write, void *context);

#endif
