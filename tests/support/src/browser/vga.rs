//! Reads the text on a picture of a VGA text screen, glyph by glyph.
//!
//! The font is the one that the guest itself draws with: it stands in the VGA BIOS that QEMU gives it.
//! So a picture either reads as exactly the text that the guest wrote, or it is not that picture.

use std::collections::HashMap;
use std::fs;
use std::sync::LazyLock;

/// QEMU's VGA BIOS, from Debian's `seabios`, on which `qemu-system-x86` depends.
const VGA_BIOS: &str = "/usr/share/seabios/vgabios-stdvga.bin";

/// A character cell of text mode 3, in pixels. Glyphs are 8 wide; the ninth column is empty for letters.
const CELL: (usize, usize) = (9, 16);

/// The letter A of the 8x16 font, by which the font is found in the BIOS.
const LETTER_A: Glyph = [
    0x00, 0x00, 0x10, 0x38, 0x6c, 0xc6, 0xc6, 0xfe, 0xc6, 0xc6, 0xc6, 0xc6, 0x00, 0x00, 0x00, 0x00,
];

/// A row of pixels in each byte, the leftmost in the highest bit.
type Glyph = [u8; CELL.1];

/// A text screen as a person reads it.
#[derive(Clone, Debug)]
pub struct TextScreen {
    width: usize,
    height: usize,
    rgb: Vec<[u8; 3]>,
}

impl TextScreen {
    /// Decodes a picture.
    pub fn read(png: &[u8]) -> Self {
        let mut decoder = png::Decoder::new(std::io::Cursor::new(png));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder.read_info().expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a picture that fits")];
        let info = reader.next_frame(&mut pixels).expect("a picture in the PNG");
        let samples = info.color_type.samples();
        let rgb = pixels[..info.buffer_size()]
            .chunks_exact(samples)
            .map(|pixel| [pixel[0], pixel[1], pixel[2]])
            .collect();
        Self { width: info.width as usize, height: info.height as usize, rgb }
    }

    /// Its size in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// The colour of a pixel.
    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        self.rgb[y * self.width + x]
    }

    /// The text of a row of character cells, without blanks at its end. What is no letter of ASCII, the
    /// cursor for one, reads as `\u{fffd}`.
    pub fn row(&self, row: usize) -> String {
        if (row + 1) * CELL.1 > self.height {
            return String::new();
        }
        let text: String =
            (0..self.width / CELL.0).map(|column| self.letter(column, row)).collect();
        text.trim_end_matches([' ', '\u{fffd}']).to_owned()
    }

    /// All rows.
    pub fn text(&self) -> String {
        let rows: Vec<String> = (0..self.height / CELL.1).map(|row| self.row(row)).collect();
        rows.join("\n")
    }

    fn letter(&self, column: usize, row: usize) -> char {
        // The blue of the banner's ground has no green; its letters and all others have.
        let lit = |x, y| self.pixel(column * CELL.0 + x, row * CELL.1 + y)[1] > 0x55;
        let glyph: Glyph =
            std::array::from_fn(|y| (0..8).fold(0, |bits, x| bits << 1 | u8::from(lit(x, y))));
        FONT.get(&glyph).copied().unwrap_or('\u{fffd}')
    }
}

/// The printable characters of ASCII, by their glyphs.
static FONT: LazyLock<HashMap<Glyph, char>> = LazyLock::new(|| {
    let bios = fs::read(VGA_BIOS)
        .unwrap_or_else(|error| panic!("{VGA_BIOS}: {error}: run `./justw setup`"));
    let letter_a = bios
        .windows(LETTER_A.len())
        .position(|bytes| bytes == LETTER_A)
        .expect("the VGA BIOS has an 8x16 font");
    let font = &bios[letter_a - usize::from(b'A') * LETTER_A.len()..];
    (b' '..=b'~')
        .map(|letter| {
            let glyph = &font[usize::from(letter) * LETTER_A.len()..][..LETTER_A.len()];
            (glyph.try_into().expect("as long as a glyph"), char::from(letter))
        })
        .collect()
});
