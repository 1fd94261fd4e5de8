/* Recordings in RIFF WAVE files: 16-bit or 32-bit floating-point samples, any number of channels. A
 * header of its own, for C and C++; on big-endian processors it would need swaps. */
#ifndef WAV_H
#define WAV_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  uint32_t rate;   /* frames a second */
  size_t channels; /* samples of a frame */
  size_t frames;
  float* samples; /* frames x channels; free it */
} wav;

enum { WAV_PCM = 1, WAV_FLOAT = 3, WAV_EXTENSIBLE = 0xfffe };

static inline uint16_t wav_u16(const unsigned char* p) { return (uint16_t)(p[0] | p[1] << 8); }

static inline uint32_t wav_u32(const unsigned char* p) {
  return (uint32_t)wav_u16(p) | (uint32_t)wav_u16(p + 2) << 16;
}

static inline void wav_put16(unsigned char* p, unsigned value) {
  p[0] = (unsigned char)value;
  p[1] = (unsigned char)(value >> 8);
}

static inline void wav_put32(unsigned char* p, uint32_t value) {
  wav_put16(p, value & 0xffff);
  wav_put16(p + 2, value >> 16);
}

/* Reads the samples of a "data" chunk of at most `size` bytes. Returns null, or what is wrong. */
static inline const char* wav_read_data(FILE* file, size_t size, int bits, wav* to) {
  const size_t width = (size_t)bits / 8, frame = width * to->channels;
  unsigned char* bytes = (unsigned char*)malloc(size ? size : 1);
  if (!bytes) return "no memory for its samples";
  to->frames = fread(bytes, 1, size, file) / frame; /* what a cut file has */
  const size_t count = to->frames * to->channels;
  to->samples = (float*)malloc(count ? count * sizeof(float) : 1);
  if (to->samples && bits == 32) memcpy(to->samples, bytes, count * sizeof(float));
  if (to->samples && bits == 16) {
    for (size_t i = 0; i < count; ++i) {
      to->samples[i] = (float)(int16_t)wav_u16(bytes + 2 * i) / 32768;
    }
  }
  free(bytes);
  return to->samples ? NULL : "no memory for its samples";
}

static inline const char* wav_read_chunks(FILE* file, wav* to) {
  unsigned char header[12], format[40] = {0};
  if (fread(header, 1, 12, file) < 12 || memcmp(header, "RIFF", 4) ||
      memcmp(header + 8, "WAVE", 4)) {
    return "no WAV file";
  }
  fseek(file, 0, SEEK_END);
  const long end = ftell(file);
  fseek(file, 12, SEEK_SET);
  int bits = 0;
  while (fread(header, 1, 8, file) == 8) {
    const uint32_t size = wav_u32(header + 4);
    const long here = ftell(file), left = end - here;
    if (!memcmp(header, "data", 4)) {
      if (!bits) return "no format before its samples";
      return wav_read_data(file, left > 0 && size > (uint32_t)left ? (size_t)left : size, bits, to);
    }
    if (!memcmp(header, "fmt ", 4)) {
      const size_t known = size < sizeof format ? size : sizeof format;
      if (known < 16 || fread(format, 1, known, file) < known) return "its format is cut off";
      const int extended = wav_u16(format) == WAV_EXTENSIBLE && known == sizeof format;
      const int kind = wav_u16(extended ? format + 24 : format);
      bits = wav_u16(format + 14);
      to->channels = wav_u16(format + 2);
      to->rate = wav_u32(format + 4);
      if (!to->channels || !to->rate) return "no channels, or a rate of 0";
      if (!(kind == WAV_PCM && bits == 16) && !(kind == WAV_FLOAT && bits == 32)) {
        return "expected 16-bit or 32-bit float samples";
      }
    }
    if ((long)(size + (size & 1)) > left ||
        fseek(file, here + (long)(size + (size & 1)), SEEK_SET)) {
      break;
    }
  }
  return "no samples in it";
}

/* Returns null, or what is wrong with the file. */
static inline const char* wav_read(const char* path, wav* to) {
  memset(to, 0, sizeof *to);
  FILE* file = fopen(path, "rb");
  if (!file) return "cannot be opened";
  const char* problem = wav_read_chunks(file, to);
  fclose(file);
  return problem;
}

/* Writes 32-bit float samples. Returns null, or what is wrong. */
static inline const char* wav_write(const char* path, const wav* from) {
  const size_t count = from->frames * from->channels;
  if (count > (UINT32_MAX - 36) / sizeof(float)) return "more than a WAV file can hold";
  const uint32_t frame = (uint32_t)(from->channels * sizeof(float));
  unsigned char header[44] = "RIFF....WAVEfmt ....................data";
  wav_put32(header + 4, (uint32_t)(36 + count * sizeof(float)));
  wav_put32(header + 16, 16);
  wav_put16(header + 20, WAV_FLOAT);
  wav_put16(header + 22, (unsigned)from->channels);
  wav_put32(header + 24, from->rate);
  wav_put32(header + 28, from->rate * frame);
  wav_put16(header + 32, frame);
  wav_put16(header + 34, 32);
  wav_put32(header + 40, (uint32_t)(count * sizeof(float)));
  FILE* file = fopen(path, "wb");
  if (!file) return "cannot be created";
  const int whole = fwrite(header, 1, sizeof header, file) == sizeof header &&
                    fwrite(from->samples, sizeof(float), count, file) == count;
  return fclose(file) == 0 && whole ? NULL : "cannot be written";
}

#endif
