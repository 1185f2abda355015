#include "dt_frame.h"

#include "dt_protocol.h"

#define COBS_MAX_GROUP 254u

/* CRC-32 of each half byte: 64 bytes of flash for a fourth of the bitwise loop's time. */
static const uint32_t crc_table[16] = {
    0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
    0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu, 0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu,
};

uint32_t dt_crc32(const uint8_t *bytes, uint32_t n)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (uint32_t i = 0; i < n; i++) {
        crc ^= bytes[i];
        crc = (crc >> 4) ^ crc_table[crc & 15u];
        crc = (crc >> 4) ^ crc_table[crc & 15u];
    }
    return ~crc;
}

static void restart(dt_decoder_t *decoder)
{
    decoder->length = 0;
    decoder->error = 0;
    decoder->group_left = 0;
    decoder->zero_due = 0;
    decoder->empty = 1;
}

void dt_decoder_init(dt_decoder_t *decoder, uint8_t *buffer, uint32_t capacity)
{
    decoder->buffer = buffer;
    decoder->capacity = capacity;
    restart(decoder);
}

static void append(dt_decoder_t *decoder, uint8_t byte)
{
    if (decoder->length == decoder->capacity) {
        decoder->error = DT_ERR_OVERSIZE;
    } else {
        decoder->buffer[decoder->length++] = byte;
    }
}

static int32_t end_of_frame(dt_decoder_t *decoder, uint32_t *crc)
{
    const uint32_t length = decoder->length;
    if (decoder->empty) {
        return 0;
    }
    if (decoder->error != 0) {
        return decoder->error;
    }
    if (decoder->group_left != 0 || length < DT_HEADER_BYTES + DT_CRC_BYTES) {
        return DT_ERR_FRAME;
    }
    const uint8_t *tail = &decoder->buffer[length - DT_CRC_BYTES];
    *crc = (uint32_t)tail[0] | (uint32_t)tail[1] << 8 | (uint32_t)tail[2] << 16 | (uint32_t)tail[3] << 24;
    if (*crc != dt_crc32(decoder->buffer, length - DT_CRC_BYTES)) {
        return DT_ERR_FRAME;
    }
    return (int32_t)(length - DT_CRC_BYTES);
}

int32_t dt_decoder_push(dt_decoder_t *decoder, uint8_t byte, uint32_t *crc)
{
    if (byte == 0) {
        const int32_t outcome = end_of_frame(decoder, crc);
        restart(decoder);
        return outcome;
    }
    decoder->empty = 0;
    if (decoder->error != 0) {
        return 0;  /* wait for the delimiter */
    }
    if (decoder->group_left != 0) {
        decoder->group_left--;
        append(decoder, byte);
        return 0;
    }
    if (decoder->zero_due) {
        append(decoder, 0);
    }
    decoder->group_left = (uint8_t)(byte - 1u);
    decoder->zero_due = byte != COBS_MAX_GROUP + 1u;
    return 0;
}

void dt_frame_send(uint8_t *bytes, uint32_t n, dt_write_t write, void *context)
{
    static const uint8_t delimiter[1] = {0};
    const uint32_t crc = dt_crc32(bytes, n);
    for (uint32_t i = 0; i < DT_CRC_BYTES; i++) {
        bytes[n + i] = (uint8_t)(crc >> (8u * i));
    }
    const uint32_t end = n + DT_CRC_BYTES;

    /* The first delimiter ends whatever noise stands before the frame. */
    write(context, delimiter, 1);
    uint32_t start = 0;
    for (;;) {
        uint32_t group = 0;
        while (start + group < end && group < COBS_MAX_GROUP && bytes[start + group] != 0) {
            group++;
        }
        const uint8_t code = (uint8_t)(group + 1u);
        write(context, &code, 1);
        write(context, &bytes[start], group);
        start += group;
        if (start == end) {
            break;
        }
        if (group != COBS_MAX_GROUP) {
            start++;  /* the zero that the code stands for */
            if (start == end) {
                static const uint8_t last_group[1] = {1};
                write(context, last_group, 1);
                break;
            }
        }
    }
    write(context, delimiter, 1);
}
