/** One TFRecord: length (u64), masked CRC-32C of the length, data, masked CRC-32C of the data; little endian. */
export function tfRecord(data: Uint8Array): Uint8Array {
  const out = new Uint8Array(data.length + 16);
  const fields = new DataView(out.buffer);
  fields.setUint32(0, data.length, true);
  fields.setUint32(8, maskedCrc(out.subarray(0, 8)), true);
  out.set(data, 12);
  fields.setUint32(12 + data.length, maskedCrc(data), true);
  return out;
}

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  return crc;
});

/** CRC-32C (Castagnoli), as in RFC 3720. */
export function crc32c(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) crc = (crc >>> 8) ^ table[(crc ^ byte) & 0xff]!;
  return ~crc >>> 0;
}

/** The checksum as TFRecords store it, so that a checksum of data that holds checksums stays useful. */
function maskedCrc(data: Uint8Array): number {
  const crc = crc32c(data);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}
