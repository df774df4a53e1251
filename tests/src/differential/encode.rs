//! Operand fields to bytes: the inverse of the decoder, by format.

use racewalk_isa::s390x::decode::{Format, Row, template};

/// Operand fields; which of them mean something depends on the format.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fields {
    /// R1, or M1 of a branch.
    pub r1: u8,
    /// R2.
    pub r2: u8,
    /// R3.
    pub r3: u8,
    /// M3 where R3 is elsewhere (RRF has it in the place of R3).
    pub m3: u8,
    /// M4.
    pub m4: u8,
    /// Index register.
    pub x: u8,
    /// Base register.
    pub b: u8,
    /// Displacement: 12 bits, or 20 bits signed.
    pub d: i32,
    /// Base register of the second storage operand.
    pub b2: u8,
    /// Displacement of the second storage operand: 12 bits.
    pub d2: i32,
    /// Immediate, or the length byte.
    pub i: i64,
}

/// The bytes of an instruction; relative operands are left zero.
pub fn encode(row: &Row, f: &Fields) -> [u8; 6] {
    let mut b = template(row);
    let nibbles = |h: u8, l: u8| h << 4 | l & 15;
    let imm = f.i.to_be_bytes();
    let [_, _, dh, dl] = f.d.to_be_bytes();
    let [_, _, eh, el] = f.d2.to_be_bytes();
    let short = |b: &mut [u8; 6]| (b[2], b[3]) = (nibbles(f.b, dh), dl);
    let second = |b: &mut [u8; 6]| (b[4], b[5]) = (nibbles(f.b2, eh), el);
    use Format::*;
    match row.format {
        E => {}
        I => b[1] = imm[7],
        RR | RRm => b[1] = nibbles(f.r1, f.r2),
        RRE => b[3] = nibbles(f.r1, f.r2),
        RRF => {
            b[2] = nibbles(f.r3, f.m4);
            b[3] = nibbles(f.r1, f.r2);
        }
        RRD => {
            b[2] = f.r1 << 4;
            b[3] = nibbles(f.r3, f.r2);
        }
        RX | RXm | RXE | RXY | RXYm => {
            b[1] = nibbles(f.r1, f.x);
            short(&mut b);
            match row.format {
                RXE => b[4] = f.m3 << 4,
                RXY | RXYm => b[4] = (f.d >> 12) as u8,
                _ => {}
            }
        }
        RXF => {
            b[1] = nibbles(f.r3, f.x);
            short(&mut b);
            b[4] = f.r1 << 4;
        }
        RS | RSY => {
            b[1] = nibbles(f.r1, f.r3);
            short(&mut b);
            if row.format == RSY {
                b[4] = (f.d >> 12) as u8;
            }
        }
        RSI | RIEe => b[1] = nibbles(f.r1, f.r3),
        RSL => {
            b[1] = imm[7] << 4;
            short(&mut b);
        }
        S => short(&mut b),
        SI | SIY => {
            b[1] = imm[7];
            short(&mut b);
            if row.format == SIY {
                b[4] = (f.d >> 12) as u8;
            }
        }
        SIL => {
            short(&mut b);
            b[4..6].copy_from_slice(&imm[6..]);
        }
        SS | SSl2 => {
            b[1] = imm[7];
            short(&mut b);
            second(&mut b);
        }
        SSr => {
            b[1] = nibbles(f.r1, f.r3);
            short(&mut b);
            second(&mut b);
        }
        SSF => {
            // Either a register and a four-bit extension, or a whole byte of extension.
            b[1] |= if b[0] == 0xe5 { 0 } else { f.r3 << 4 };
            short(&mut b);
            second(&mut b);
        }
        RI => {
            b[1] |= f.r1 << 4;
            b[2..4].copy_from_slice(&imm[6..]);
        }
        RIrel | RIm | RILrel | RILm => b[1] |= f.r1 << 4,
        RIL => {
            b[1] |= f.r1 << 4;
            b[2..6].copy_from_slice(&imm[4..]);
        }
        RIEa => {
            b[1] = f.r1 << 4;
            b[2..4].copy_from_slice(&imm[6..]);
            b[4] = f.m3 << 4;
        }
        RIEb => {
            b[1] = nibbles(f.r1, f.r2);
            b[4] = f.m3 << 4;
        }
        RIEc => {
            b[1] = nibbles(f.r1, f.m3);
            b[4] = imm[7];
        }
        RIEd => {
            b[1] = nibbles(f.r1, f.r3);
            b[2..4].copy_from_slice(&imm[6..]);
        }
        RIEf => {
            b[1] = nibbles(f.r1, f.r2);
            b[2..5].copy_from_slice(&imm[5..]);
        }
        RIS => {
            b[1] = nibbles(f.r1, f.m3);
            short(&mut b);
            b[4] = imm[7];
        }
        RRS => {
            b[1] = nibbles(f.r1, f.r2);
            short(&mut b);
            b[4] = f.m3 << 4;
        }
    }
    b
}

#[cfg(test)]
mod tests {
    use super::*;
    use racewalk_isa::s390x::S390x;
    use racewalk_isa::s390x::decode;
    use racewalk_isa::s390x::table::ROWS;
    use racewalk_isa::{Arch, s390x::table::Op};

    /// Seen to fail with the displacement of RXY one byte off.
    #[test]
    fn the_decoder_takes_the_fields_back() {
        let f =
            Fields { r1: 2, r2: 9, r3: 5, m3: 7, m4: 3, x: 4, b: 11, d: 0xabc, b2: 12, d2: 0xdef, i: 0x5d };
        for row in ROWS {
            let bytes = encode(row, &f);
            let len = S390x::insn_len([bytes[0], bytes[1]]);
            let found = decode::row(&bytes[..len]).map(|r| r.name);
            assert_eq!(found, Some(row.name));
            let i = S390x::decode(0, &bytes[..len]);
            assert_ne!(i.op, Op::illegal, "{}", row.name);
            use Format::*;
            if matches!(row.format, RX | RXY | RXE | RXF | RS | RSY | S | SI | SIY | SIL | SS | RRS | RIS) {
                assert_eq!((i.b, i.d), (11, 0xabc), "{}", row.name);
            }
            if matches!(row.format, RX | RXY | RXE | RXF | RXm | RXYm) {
                assert_eq!(i.x, 4, "{}", row.name);
            }
            if matches!(row.format, RRE | RRF | RRD | RR | RIEb | RRS | RIEf) {
                assert_eq!((i.r1, i.r2), (2, 9), "{}", row.name);
            }
            if matches!(row.format, SS | SSl2 | SSF | SSr) {
                assert_eq!((i.b2, i.d2), (12, 0xdef), "{}", row.name);
            }
            if matches!(row.format, RI | RIL | SI | SIY | RIEa | RIEc | RIEd | RIEf | RIS | SIL) {
                assert_eq!(i.imm & 0xff, 0x5d, "{}", row.name);
            }
        }
    }
}
