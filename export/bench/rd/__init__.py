"""Rate and distortion of still pictures, beside other codecs."""
