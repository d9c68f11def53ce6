"""The page of `glra-jax demo`: what it computes, and its layout, which alone needs Gradio."""
